"""7.2: the locks have left pv_ops for an array of their own, pv_ops_lock. The seed's idea returns.

Sources: pv_ops and pv_ops_lock in the memory of Debian 7.2.13 (order and values), and the patches that took lazy mode,
io_delay, wbinvd and tlb_remove_table out of arch/x86/include/asm/paravirt_types.h and made paravirt-spinlock.h (what
depends on what).
"""

from __future__ import annotations

from pvops.eras import numbers_7_2, v6_12, v6_14, v6_18
from pvops.eras.records import Option
from pvops.eras.rules import Passes
from pvops.eras.structs import Config, Op, OpsStruct, gone, ifdef, made_once, refilled
from pvops.eras.template import Array


class pv_cpu_ops(v6_14.pv_cpu_ops):
    """Privileged instructions."""

    io_delay = gone


class pv_mmu_ops(v6_18.pv_mmu_ops):
    """TLB flushes always; page tables with CONFIG_PARAVIRT_XXL."""

    with ifdef("PARAVIRT_XXL"):
        lazy_mode_flush = Op(instead_of="lazy_mode.enter", doc="carry out the updates collected so far")
    lazy_mode = gone


class pv_lock_ops(OpsStruct):
    """Queued spinlocks: a variable of their own, which exists only with CONFIG_PARAVIRT_SPINLOCKS."""

    member = None

    queued_spin_lock_slowpath = Op()
    queued_spin_unlock = Op(callee_save=True)

    wait = Op()
    kick = Op()

    vcpu_is_preempted = Op(callee_save=True)


#: The order of struct paravirt_patch_template.
STRUCTS = (pv_cpu_ops, v6_12.pv_irq_ops, pv_mmu_ops)


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """pv_ops and pv_ops_lock as linked."""
    return refilled(
        (*STRUCTS, pv_lock_ops),
        v6_18.native(config),
        {"pv_mmu_ops.lazy_mode_flush": v6_12.paravirt_nop},
    )


ERA = v6_18.ERA.then(
    "7.2",
    "Debian 7.2.13: pv_ops and pv_ops_lock in memory; arch/x86/include/asm/paravirt{_types,-spinlock}.h",
    began=("pv_ops_lock",),
)._replace(
    arrays=(
        Array("paravirt_patch_template", STRUCTS, symbol="pv_ops", export="EXPORT_SYMBOL"),
        Array("pv_lock_ops", (pv_lock_ops,), symbol="pv_ops_lock", config="PARAVIRT_SPINLOCKS", export="EXPORT_SYMBOL"),
    ),
    configs=tuple(
        Option(o.symbol, "locks go through pv_ops_lock; without it there is no such array", depends=o.depends)
        if o.symbol == "PARAVIRT_SPINLOCKS"
        else o
        for o in v6_18.ERA.configs
    ),
    native=native,
    passes=(Passes("7.3", without=".smp_locks"), Passes("7.2")),
    numbers=(numbers_7_2.declared,),
)
