"""6.5: alternatives are moved instruction by instruction, nops merged; an address space is entered by one op.

Sources: 6.5 arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, alternative.c
(6c480f222128, 270a69c4485d); enter_mmap is 6.4's.
"""

from __future__ import annotations

from pvops.eras import v4_20, v6_1, v6_3
from pvops.eras.structs import Config, Op, OpsStruct, gone, ifdef, refilled, renewed


class pv_mmu_ops(v6_1.pv_mmu_ops):
    """TLB flushes always; page tables with CONFIG_PARAVIRT_XXL."""

    with ifdef("PARAVIRT_XXL"):
        enter_mmap = Op(instead_of="activate_mm", doc="an address space is about to be used, new or copied")
    dup_mmap = gone


#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v6_1.STRUCTS, pv_mmu_ops)


def native(config: Config) -> tuple[OpsStruct, ...]:
    """pv_ops as linked."""
    return refilled(
        STRUCTS,
        v6_3.native(config),
        {"pv_irq_ops.save_fl": "pv_native_save_fl", "pv_mmu_ops.enter_mmap": "nop_func"},
    )


ERA = v6_3.ERA.then(
    "6.5",
    "6.5: arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, alternative.c",
)._replace(
    arrays=v4_20.array(STRUCTS),
    native=native,
)
