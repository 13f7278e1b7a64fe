"""Feature numbers of 6.12.117: arch/x86/include/asm/cpufeatures.h, as what differs from 6.1.192."""

from __future__ import annotations

from pvops.eras import numbers_6_1

declared = numbers_6_1.declared.then(
    "6.12.117",
    ncapints=22,
    nbugints=2,
    words={
        3: "-LFENCE_RDTSC ZEN5:5 CLEAR_CPU_BUF:18",
        7: "-INVPCID_SINGLE TDX_HOST_PLATFORM:7",
        8: "-VNMI FLEXPRIORITY:1 EPT:2 VPID:3 COHERENCY_SFW_NO:4",
        11: "-CLEAR_CPU_BUF SGX_EDECCSSA:18 CALL_DEPTH:19 SMBA:21 BMEC:22 USER_SHSTK:23",
        12: (
            "CMPCCXADD:7 ARCH_PERFMON_EXT:8 FZRM:10 FSRS:11 FSRC:12 FRED:17 LKGS:18 WRMSRNS:19 AMX_FP16:21 "
            "AVX_IFMA:23 LAM:26"
        ),
        13: "AMD_PSFD:28",
        14: "HWP_HIGHEST_PERF_CHANGE:15",
        15: "VNMI:25",
        16: "SHSTK:7",
        19: "SEV_SNP:4 DEBUG_SWAP:14 SVSM:28 HV_INUSE_WR_ALLOWED:30",
        20: (
            "NO_NESTED_DATA_BP:0 WRMSR_XX_BASE_NS:1 LFENCE_RDTSC:2 NULL_SEL_CLR_BASE:6 NO_SMM_CTL_MSR:9 "
            "SRSO_USER_KERNEL_NO:30 SRSO_BP_SPEC_REDUCE:31"
        ),
        21: "FAST_CPPC:5 INDIRECT_THUNK_ITS:6 TSA_FILL_NO:17",
    },
    bugs="TDX_PW_MCE:31",
)
