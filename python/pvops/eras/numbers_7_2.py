"""Feature numbers of 6.19, 7.0 and 7.2.13: arch/x86/include/asm/cpufeatures.h, as what differs from 6.18.2.

7.2.13 was read whole; of 6.19 and 7.0 what rows of Debian's 6.19.14, 7.0.13 and 7.1.13 ask for and 6.18.2 has not, or
under another name: SYSFAST32 took the number of SYSENTER32 in 7.0 (f49ecf5e110a), and SGX_EUPDATESVN is in 6.19.
"""

from __future__ import annotations

from pvops.eras import numbers_6_18

declared_6_19 = numbers_6_18.declared.then("6.19", ncapints=22, nbugints=2, words={21: "SGX_EUPDATESVN:17"})
declared_7_0 = declared_6_19.then("7.0", ncapints=22, nbugints=2, words={3: "-SYSENTER32 SYSFAST32:15"})
declared = declared_7_0.then(
    "7.2.13",
    ncapints=22,
    nbugints=2,
    words={
        12: "LASS:6 MOVRS:31",
        13: "EFER_LMSLE_MBZ:20",
        15: "GMET:17",
        17: "CPPC_PERF_PRIO:2",
        20: "TLBSYNC_SFW_NO:4 AVX512_BMM:23 ERAPS:24",
        21: "SDCIAE:18 CLEAR_CPU_BUF_VM_MMIO:19 X2AVIC_EXT:20",
    },
    bugs="SEAMRET_INVD_VMCS:43 TLBI:44",
)
