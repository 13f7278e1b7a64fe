"""Feature numbers of 6.15, 6.16 and 6.18.2, arch/x86/include/asm/cpufeatures.h: as what differs from 6.12.117.

6.18.2 was read whole; of 6.15 and 6.16 what commits between say of word 21: APX is 9 since 6.16
(before, INDIRECT_THUNK_ITS, 8754e67ad4ac); ABMC and MSR_IMM came with 6.18. So these two are written back from 6.18.2.
"""

from __future__ import annotations

from pvops.eras import numbers_6_12

declared = numbers_6_12.declared.then(
    "6.18.2",
    ncapints=22,
    nbugints=2,
    words={
        3: "-P3 -P4 ZEN6:6",
        7: "-USE_IBPB",
        12: "SHA512:0 SM3:1 SM4:2",
        13: "INVLPGB:3 AMD_IBRS_SAME_MODE:19",
        15: "BUS_LOCK_THRESHOLD:29 IDLE_HLT:30",
        19: "SNP_SECURE_TSC:8 RMPREAD:21 SEGMENTED_RMP:23 ALLOWED_SEV_FEATURES:27",
        20: "GP_ON_USER_CPUID:17 PREFETCHI:20",
        21: (
            "-CLEAR_BHB_LOOP_ON_VMEXIT -FAST_CPPC -TSA_FILL_NO CLEAR_BHB_VMEXIT:4 AMD_FAST_CPPC:5 AMD_HTR_CORES:6 "
            "AMD_WORKLOAD_CLASS:7 PREFER_YMM:8 APX:9 INDIRECT_THUNK_ITS:10 ABMC:15 MSR_IMM:16"
        ),
    },
    bugs="-MMIO_UNKNOWN SPECTRE_V2_USER:37 OLD_MICROCODE:38 ITS:39 ITS_NATIVE_ONLY:40",
)
declared_6_16 = declared.then("6.16", ncapints=22, nbugints=2, words={21: "-ABMC -MSR_IMM"})
declared_6_15 = declared_6_16.then("6.15", ncapints=22, nbugints=2, words={21: "-APX INDIRECT_THUNK_ITS:9"})
