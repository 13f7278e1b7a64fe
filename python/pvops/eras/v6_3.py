"""6.3: rows of .altinstructions have flags (5d1dd961e743).

Sources: 6.3.8 arch/x86/include/asm/alternative.h, arch/x86/kernel/paravirt.c.
"""

from __future__ import annotations

from pvops.eras import v5_18, v6_1
from pvops.eras.records import ALT_INSTR_14, PATCH_SITE_5_10
from pvops.eras.structs import Config, OpsStruct, made_once, refilled


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """pv_ops as linked."""
    return refilled(
        v5_18.STRUCTS,
        v5_18.native(config),
        {
            "pv_cpu_ops.wbinvd": "pv_native_wbinvd",
            "pv_irq_ops.safe_halt": "pv_native_safe_halt",
        },
    )


#: arch/x86/include/asm/cpufeature.h or cpufeatures.h.
NUMBERS = v5_18.NUMBERS.then(
    "6.3.8",
    ncapints=21,
    nbugints=1,
    words={
        3: "-LFENCE_RDTSC AMD_LBR_V2:17",
        11: "RSB_VMEXIT_LITE:17 SGX_EDECCSSA:18 CALL_DEPTH:19 MSR_TSX_CTRL:20 SMBA:21 BMEC:22",
        12: "CMPCCXADD:7 ARCH_PERFMON_EXT:8 FZRM:10 FSRS:11 FSRC:12 LKGS:18 AMX_FP16:21 AVX_IFMA:23",
        15: "X2AVIC:18",
        20: "NO_NESTED_DATA_BP:0 LFENCE_RDTSC:2 NULL_SEL_CLR_BASE:6 AUTOIBRS:8 NO_SMM_CTL_MSR:9",
    },
    bugs="MMIO_UNKNOWN:26 RETBLEED:27 EIBRS_PBRSB:28 SMT_RSB:29",
)

ERA = v6_1.ERA.then("6.3", "6.3.8: arch/x86/include/asm/alternative.h, arch/x86/kernel/paravirt.c")._replace(
    native=native,
    records=(PATCH_SITE_5_10, ALT_INSTR_14),
    numbers=(NUMBERS,),
)
