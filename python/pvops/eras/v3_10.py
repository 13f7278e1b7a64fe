"""3.10: lazy_mode.flush (511ba86e1d38) carries out what was queued, and lazy mode goes on; store_gdt is no op.

Source: 3.10.4 arch/x86/include/asm/paravirt_types.h.
"""

from __future__ import annotations

from pvops.eras import v3_0, v3_5
from pvops.eras.nops import ideal_nops
from pvops.eras.structs import Config, Op, OpsStruct, gone, made_once, refilled, renewed
from pvops.eras.template import Array


class pv_cpu_ops(v3_5.pv_cpu_ops):
    """Privileged instructions."""

    store_gdt = gone
    load_user_cs_desc = gone


class pv_lazy_ops(v3_0.pv_lazy_ops):
    """Deferred updates."""

    flush = Op(doc="carry out what was collected, and go on collecting")


class pv_mmu_ops(v3_0.pv_mmu_ops):
    """Page tables of two, three (PAE) or four levels (x86-64)."""

    lazy_mode = pv_lazy_ops


#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v3_5.STRUCTS, pv_cpu_ops, pv_mmu_ops)


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """The structures as linked."""
    return refilled(STRUCTS, v3_5.native(config), {})


#: arch/x86/include/asm/cpufeature.h or cpufeatures.h.
NUMBERS = v3_5.NUMBERS.then(
    "3.10.4",
    ncapints=10,
    nbugints=1,
    words={
        3: "EAGER_FPU:29 NONSTOP_TSC_S3:30",
        6: "PERFCTR_NB:24 PERFCTR_L2:28",
        7: "PROC_FEEDBACK:9",
        9: "TSC_ADJUST:1 SMAP:20",
    },
    bugs="F00F:0 FDIV:1 COMA:2 AMD_TLB_MMATCH:3 AMD_APIC_C1E:4",
)

ERA = v3_5.ERA.then("3.10", "3.10.4: arch/x86/include/asm/paravirt_types.h")._replace(
    arrays=(Array("paravirt_patch_template", STRUCTS),),
    configs=tuple(option for option in v3_5.ERA.configs if not option.patch),
    native=native,
    nops=ideal_nops(amd=False, hygon=False, k8=False),
    numbers=(NUMBERS,),
)
