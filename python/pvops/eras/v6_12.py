"""6.12: there is no .parainstructions any more, every call is a record of .altinstructions that names no number.

Sources: Debian 6.12 arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, asm-offsets_64.c. An op's number
here is its index in pv_ops.
"""

from __future__ import annotations

from pvops.eras import numbers_6_12, v5_10, v6_1
from pvops.eras.nops import fixed
from pvops.eras.records import ALT_INSTR_14, no_clobbers
from pvops.eras.rules import Passes
from pvops.eras.structs import Config, Op, OpsStruct, gone, ifdef, refilled
from pvops.eras.template import Array

paravirt_nop = "nop_func"


class pv_irq_ops(v6_1.pv_irq_ops):
    """Interrupt state."""

    safe_halt = Op()
    halt = Op()


class pv_mmu_ops(v6_1.pv_mmu_ops):
    """TLB flushes always; page tables with CONFIG_PARAVIRT_XXL."""

    with ifdef("PARAVIRT_XXL"):
        enter_mmap = Op(instead_of="activate_mm", doc="an address space is about to be used, new or copied")
    dup_mmap = gone


#: The order of struct paravirt_patch_template.
STRUCTS = (v6_1.pv_cpu_ops, pv_irq_ops, pv_mmu_ops, v5_10.pv_lock_ops)


def native(config: Config) -> tuple[OpsStruct, ...]:
    """pv_ops as linked."""
    return refilled(
        STRUCTS,
        v6_1.native(config),
        {
            "pv_cpu_ops.wbinvd": "pv_native_wbinvd",
            "pv_irq_ops.save_fl": "pv_native_save_fl",
            "pv_irq_ops.safe_halt": "pv_native_safe_halt",
            "pv_mmu_ops.tlb_remove_table": "native_tlb_remove_table",
            "pv_mmu_ops.enter_mmap": paravirt_nop,
        },
        renamed={v5_10.paravirt_nop: paravirt_nop},
    )


ERA = v6_1.ERA.then(
    "6.12",
    "Debian 6.12.117: arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c",
    ended=(".parainstructions", "paravirt_patch"),
)._replace(
    arrays=(Array("paravirt_patch_template", STRUCTS, symbol="pv_ops", export="EXPORT_SYMBOL"),),
    native=native,
    native_patch=None,
    records=(ALT_INSTR_14,),
    clobbers=no_clobbers,
    paravirt=None,
    passes=(Passes("6.12"),),
    nops=fixed("x86-11"),
    numbers=(numbers_6_12.declared,),
    sites=None,
    functions=("BUG_func", paravirt_nop),
)
