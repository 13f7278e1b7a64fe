"""Feature numbers of 6.15, 6.16 and 6.18.2, arch/x86/include/asm/cpufeatures.h: as what differs from 7.2.13.

6.18.2 was read whole; of 6.15 and 6.16 what commits between say of word 21: APX is 9 since 6.16
(before, INDIRECT_THUNK_ITS, 8754e67ad4ac); ABMC and MSR_IMM came with 6.18.
"""

from __future__ import annotations

from pvops.eras import numbers_7_2

declared = numbers_7_2.declared.then(
    "6.18.2",
    ncapints=22,
    nbugints=2,
    words={
        3: "-SYSFAST32 SYSENTER32:15",
        12: "-LASS -MOVRS",
        13: "-EFER_LMSLE_MBZ",
        15: "-GMET",
        17: "-CPPC_PERF_PRIO",
        20: "-AVX512_BMM -ERAPS -TLBSYNC_SFW_NO",
        21: "-CLEAR_CPU_BUF_VM_MMIO -SDCIAE -SGX_EUPDATESVN -X2AVIC_EXT",
    },
    bugs="-SEAMRET_INVD_VMCS -TLBI",
)
declared_6_16 = declared.then("6.16", ncapints=22, nbugints=2, words={21: "-ABMC -MSR_IMM"})
declared_6_15 = declared_6_16.then("6.15", ncapints=22, nbugints=2, words={21: "-APX INDIRECT_THUNK_ITS:9"})
