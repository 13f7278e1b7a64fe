"""6.1: a hypervisor hears of pages that are encrypted from now on, or no longer (ffecc5a30d49, 5.19).

Sources: Debian 6.1 arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, asm-offsets_64.c; 5.19.
"""

from __future__ import annotations

from pvops.eras import numbers_6_1, v4_20, v5_13, v5_15
from pvops.eras.records import Option
from pvops.eras.structs import Config, Op, OpsStruct, refilled, renewed

paravirt_nop = v4_20.paravirt_nop


class pv_mmu_ops(v5_13.pv_mmu_ops):
    """TLB flushes always; page tables with CONFIG_PARAVIRT_XXL."""

    notify_page_enc_status_changed = Op(after="exit_mmap", doc="pages are encrypted from now on, or no longer")


#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v5_13.STRUCTS, pv_mmu_ops)


def native(config: Config) -> tuple[OpsStruct, ...]:
    """pv_ops as linked."""
    return refilled(
        STRUCTS,
        v5_13.native(config),
        {
            "pv_cpu_ops.get_debugreg": "pv_native_get_debugreg",
            "pv_cpu_ops.set_debugreg": "pv_native_set_debugreg",
            "pv_irq_ops.irq_disable": "pv_native_irq_disable",
            "pv_irq_ops.irq_enable": "pv_native_irq_enable",
            "pv_mmu_ops.notify_page_enc_status_changed": paravirt_nop,
            "pv_mmu_ops.read_cr2": "pv_native_read_cr2",
            "pv_mmu_ops.write_cr2": "pv_native_write_cr2",
        },
    )


ERA = v5_15.ERA.then(
    "6.1", "Debian 6.1.192: arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c"
)._replace(
    arrays=v4_20.array(STRUCTS),
    # As before, but Debian's page tables have five levels now.
    configs=tuple(
        Option(o.symbol, o.meaning, (False, True), depends=o.depends) if o.symbol == "X86_5LEVEL" else o
        for o in v5_13.ERA.configs
    ),
    native=native,
    numbers=(numbers_6_1.declared,),
)
