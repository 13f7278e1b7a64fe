"""2.6.24, the first release with the split: the seed but for lazy mode, which moved into cpu and mmu (i386 only).

Sources: 2.6.24 include/asm-x86/paravirt.h, arch/x86/kernel/paravirt_32.c. The new members stand last in their
structures, so the classes say only what was added.
"""

from __future__ import annotations

from pvops.eras import v2_6_24_rc1 as seed
from pvops.eras.nops import by_features, by_vendor
from pvops.eras.records import class_options
from pvops.eras.rules import ParavirtRules, Passes
from pvops.eras.structs import Config, Op, OpsStruct, made_once
from pvops.eras.template import Array
from pvops.eras.v2_6_24_rc1 import paravirt_nop, pv_apic_ops, pv_init_ops, pv_irq_ops, pv_time_ops


class pv_lazy_ops(OpsStruct):
    """Deferred updates, once in pv_cpu_ops and once in pv_mmu_ops."""

    enter = Op(doc="start collecting updates")
    leave = Op(doc="carry out what was collected")


class pv_cpu_ops(seed.pv_cpu_ops):
    """Privileged instructions. Exported to every module since this release, as 2.6.23's paravirt_ops was."""

    export = "EXPORT_SYMBOL"

    lazy_mode = pv_lazy_ops


class pv_mmu_ops(seed.pv_mmu_ops):
    """Page tables. Exported to every module since this release, as 2.6.23's paravirt_ops was."""

    export = "EXPORT_SYMBOL"

    lazy_mode = pv_lazy_ops


#: The order of struct paravirt_patch_template; pv_misc_ops is gone.
STRUCTS = (pv_init_ops, pv_time_ops, pv_cpu_ops, pv_irq_ops, pv_apic_ops, pv_mmu_ops)


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """The seed's values, and nothing to do in lazy mode."""
    init, _misc, time, cpu, irq, apic, mmu = seed.native(config)
    nothing = {"enter": paravirt_nop, "leave": paravirt_nop}
    return (
        init,
        time,
        pv_cpu_ops(**cpu.values, lazy_mode=nothing),
        irq,
        apic,
        pv_mmu_ops(**{**mmu.values, "kmap_atomic_pte": "kmap_atomic_func"}, lazy_mode=nothing),
    )


ERA = seed.ERA.then(
    "2.6.24", "2.6.24: include/asm-x86/paravirt.h, arch/x86/kernel/paravirt_32.c", ended=("pv_misc_ops",)
)._replace(
    arrays=(Array("paravirt_patch_template", STRUCTS),),
    configs=seed.OPTIONS + class_options("time", "cpu", "irq", "apic", "mmu"),
    native=native,
    paravirt=ParavirtRules("2.6.24", "ud2", "_paravirt_nop", {}, True, True, "keep", "arch/x86/kernel/paravirt_32.c"),
    passes=(Passes("2.6.24"),),
    nops=by_vendor(by_features("K8", "K7", "P4", "P3")),
)
