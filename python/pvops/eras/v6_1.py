"""6.1: init and time are gone (static calls took the clocks), and so is native_patch: alternatives inline.

Sources: Debian 6.1 arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, asm-offsets_64.c.
"""

from __future__ import annotations

from pvops.eras import numbers_6_1, v5_10
from pvops.eras.nops import fixed
from pvops.eras.records import OFFSET, Option, clobbers_6_1
from pvops.eras.rules import ParavirtRules, Passes
from pvops.eras.shape import Shape
from pvops.eras.structs import Config, Op, OpsStruct, gone, refilled
from pvops.eras.template import Array

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.patching import PatchFunction


class pv_cpu_ops(v5_10.pv_cpu_ops):
    """Privileged instructions."""

    iret = gone


class pv_irq_ops(v5_10.pv_irq_ops):
    """Interrupt state."""

    restore_fl = gone


class pv_mmu_ops(v5_10.pv_mmu_ops):
    """TLB flushes always; page tables with CONFIG_PARAVIRT_XXL."""

    flush_tlb_multi = Op(
        instead_of="flush_tlb_others", doc="have a set of CPUs, maybe this one too, forget translations"
    )
    notify_page_enc_status_changed = Op(after="exit_mmap", doc="pages are encrypted from now on, or no longer")


#: The order of struct paravirt_patch_template; pv_init_ops and pv_time_ops are gone.
STRUCTS = (pv_cpu_ops, pv_irq_ops, pv_mmu_ops, v5_10.pv_lock_ops)


def native(config: Config) -> tuple[OpsStruct, ...]:
    """pv_ops as linked."""
    return refilled(
        STRUCTS,
        v5_10.native(config),
        {
            "pv_cpu_ops.get_debugreg": "pv_native_get_debugreg",
            "pv_cpu_ops.set_debugreg": "pv_native_set_debugreg",
            "pv_irq_ops.irq_disable": "pv_native_irq_disable",
            "pv_irq_ops.irq_enable": "pv_native_irq_enable",
            "pv_mmu_ops.flush_tlb_multi": "native_flush_tlb_multi",
            "pv_mmu_ops.notify_page_enc_status_changed": v5_10.paravirt_nop,
            "pv_mmu_ops.read_cr2": "pv_native_read_cr2",
            "pv_mmu_ops.write_cr2": "pv_native_write_cr2",
        },
    )


def paravirt_patch(config: Config) -> PatchFunction:
    """Nothing is inlined here any more: call, nops, or a call to paravirt_BUG for NULL."""
    from pvops.eras.patching import PatchFunction

    return PatchFunction("paravirt_patch", "6.1 arch/x86/kernel/paravirt.c", {})


ERA = v5_10.ERA.then(
    "6.1",
    "Debian 6.1.192: arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c",
    began=("paravirt_patch",),
    ended=("native_patch",),
)._replace(
    arrays=(Array("paravirt_patch_template", STRUCTS, symbol="pv_ops", export="EXPORT_SYMBOL"),),
    # As 5.10's, but Debian's page tables have five levels now.
    configs=tuple(
        Option(o.symbol, o.meaning, (False, True), depends=o.depends) if o.symbol == "X86_5LEVEL" else o
        for o in v5_10.OPTIONS
    ),
    native=native,
    native_patch=paravirt_patch,
    offsets=(OFFSET("PV_IRQ_save_fl", "paravirt_patch_template", "irq.save_fl", config="PARAVIRT_XXL&DEBUG_ENTRY"),),
    clobbers=clobbers_6_1,
    paravirt=ParavirtRules(
        "6.1",
        "paravirt_BUG",
        "_paravirt_nop",
        {},
        False,
        False,
        "bug",
        "arch/x86/kernel/paravirt.c: paravirt_patch()",
    ),
    passes=(Passes("6.5", layout="flags"), Passes("6.1")),
    nops=fixed("x86"),
    numbers=(numbers_6_1.declared,),
    sites=Shape(rip=True, assembler=False),
)
