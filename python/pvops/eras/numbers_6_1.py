"""Feature numbers of 6.1.192: arch/x86/include/asm/cpufeatures.h, as what differs from 5.10.262."""

from __future__ import annotations

from pvops.eras import numbers_5_10

declared = numbers_5_10.declared.then(
    "6.1.192",
    ncapints=22,
    nbugints=2,
    words={
        3: "-K7 AMD_LBR_V2:17 RAPL:29",
        7: "XCOMPACTED:10 PERFMON_V2:20",
        8: "COHERENCY_SFW_NO:5 PVUNLOCK:20 VCPUPREEMPT:21 TDX_GUEST:22",
        9: "SGX:2",
        10: "XFD:4",
        11: "-BHI_CTRL -INDIRECT_THUNK_ITS SGX1:8 SGX2:9 CLEAR_CPU_BUF:18 MSR_TSX_CTRL:20",
        12: "AVX_VNNI:4",
        13: "CPPC:27 BRS:31",
        14: "HFI:19",
        15: "X2AVIC:18 V_SPEC_CTRL:20 SVME_ADDR_CHK:28",
        16: "BUS_LOCK_DETECT:24 SGX_LC:30",
        18: "RTM_ALWAYS_ABORT:11 HYBRID_CPU:15 IBT:20 AMX_BF16:22 AVX512_FP16:23 AMX_TILE:24 AMX_INT8:25",
        19: "V_TSC_AUX:9",
        21: (
            "AMD_LBR_PMC_FREEZE:0 CLEAR_BHB_LOOP:1 BHI_CTRL:2 CLEAR_BHB_HW:3 CLEAR_BHB_LOOP_ON_VMEXIT:4 "
            "INDIRECT_THUNK_ITS:5 TSA_SQ_NO:11 TSA_L1_NO:12 CLEAR_CPU_BUF_VM:13 IBPB_EXIT_TO_USER:14"
        ),
        22: "-TSA_SQ_NO -TSA_L1_NO -CLEAR_CPU_BUF_VM -IBPB_EXIT_TO_USER",
    },
    bugs="SMT_RSB:29 GDS:30",
)
