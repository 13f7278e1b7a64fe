"""Feature numbers of 7.2.13: arch/x86/include/asm/cpufeatures.h, as what differs from 6.18.2."""

from __future__ import annotations

from pvops.eras import numbers_6_18

declared = numbers_6_18.declared.then(
    "7.2.13",
    ncapints=22,
    nbugints=2,
    words={
        3: "-SYSENTER32 SYSFAST32:15",
        12: "LASS:6 MOVRS:31",
        13: "EFER_LMSLE_MBZ:20",
        15: "GMET:17",
        17: "CPPC_PERF_PRIO:2",
        20: "TLBSYNC_SFW_NO:4 AVX512_BMM:23 ERAPS:24",
        21: "SGX_EUPDATESVN:17 SDCIAE:18 CLEAR_CPU_BUF_VM_MMIO:19 X2AVIC_EXT:20",
    },
    bugs="SEAMRET_INVD_VMCS:43 TLBI:44",
)
