"""6.4: enter_mmap instead of activate_mm and dup_mmap; passes and nops are still those of 6.1.

Sources: 6.4.6 arch/x86/include/asm/paravirt_types.h, nops.h, arch/x86/kernel/paravirt.c, alternative.c.
"""

from __future__ import annotations

from pvops.eras import v4_20, v5_18, v6_3
from pvops.eras.structs import Config, Op, OpsStruct, gone, ifdef, made_once, refilled, renewed


class pv_mmu_ops(v5_18.pv_mmu_ops):
    """TLB flushes always; page tables with CONFIG_PARAVIRT_XXL."""

    with ifdef("PARAVIRT_XXL"):
        enter_mmap = Op(instead_of="activate_mm", doc="an address space is about to be used, new or copied")
    dup_mmap = gone


#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v5_18.STRUCTS, pv_mmu_ops)


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """pv_ops as linked."""
    return refilled(
        STRUCTS,
        v6_3.native(config),
        {"pv_irq_ops.save_fl": "pv_native_save_fl", "pv_mmu_ops.enter_mmap": v5_18.paravirt_nop},
    )


#: arch/x86/include/asm/cpufeatures.h.
NUMBERS = v6_3.NUMBERS.then(
    "6.4.6",
    ncapints=21,
    nbugints=1,
    words={
        8: "-VNMI FLEXPRIORITY:1 EPT:2 VPID:3",
        12: "LAM:26",
        13: "AMD_PSFD:28",
        15: "VNMI:25",
    },
)

ERA = v6_3.ERA.then("6.4", "6.4.6: arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c")._replace(
    arrays=v4_20.array(STRUCTS),
    native=native,
    numbers=(NUMBERS,),
)
