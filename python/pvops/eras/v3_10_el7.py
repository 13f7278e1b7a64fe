"""3.10 as RHEL 7 has it: later locks, ticket and queued ones in one structure.

Sources: 3.10.0-1160.el7 arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt-spinlocks.c,
paravirt_patch_64.c.
"""

from __future__ import annotations

from pvops.eras import v2_6_24_rc1 as seed
from pvops.eras import v2_6_27, v3_10, v3_12
from pvops.eras.records import Option
from pvops.eras.structs import Config, Op, OpsStruct, gone, ifdef, refilled, renewed
from pvops.eras.template import Array
from pvops.eras.v2_6_24_rc1 import paravirt_nop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.patching import PatchFunction


class pv_cpu_ops(v3_10.pv_cpu_ops):
    """Privileged instructions."""

    read_tscp = gone


class pv_mmu_ops(v3_10.pv_mmu_ops):
    """Page tables of two, three (PAE) or four levels (x86-64)."""

    pte_update_defer = gone
    pmd_update = gone
    pmd_update_defer = gone


class pv_lock_ops(v3_12.pv_lock_ops):
    """The slow paths of ticket locks and of queued ones; which are used is decided at boot."""

    with ifdef("QUEUED_SPINLOCKS"):
        queued_spin_unlock = Op(callee_save=True, doc="let the lock go, and wake who waits for it")
        queued_spin_lock_slowpath = Op(doc="take a lock that somebody holds")
        wait = Op(doc="let the hypervisor run somebody else until kicked, if the byte still has this value")
        kick = Op(doc="wake a CPU that waits")


#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v3_10.STRUCTS, pv_cpu_ops, pv_mmu_ops, pv_lock_ops)

NATIVE_UNLOCK = "__raw_callee_save___native_queued_spin_unlock"


def native(config: Config) -> tuple[OpsStruct, ...]:
    """The structures as linked."""
    queued = config.holds("QUEUED_SPINLOCKS")
    return refilled(
        STRUCTS,
        v3_10.native(config),
        {
            "pv_lock_ops.lock_spinning": paravirt_nop,
            "pv_lock_ops.unlock_kick": "__pv_ticket_unlock_slowpath" if queued else paravirt_nop,
            "pv_lock_ops.queued_spin_unlock": NATIVE_UNLOCK,
            "pv_lock_ops.queued_spin_lock_slowpath": "native_queued_spin_lock_slowpath",
            "pv_lock_ops.wait": paravirt_nop,
            "pv_lock_ops.kick": paravirt_nop,
        },
    )


def native_patch(config: Config) -> PatchFunction:
    """Inlines by type, but the locks only while the unlock op is the native one.

    ``flush_tlb_single`` is inlined only on a CPU without PCID, which the tables do not tell; it is taken for inlined.
    """
    from pvops.eras.patching import inline_all

    code = dict(v2_6_27.DEF_NATIVE_64 if config.bits == 64 else seed.DEF_NATIVE)
    code.pop("pv_cpu_ops.read_tsc", None)
    guard = {}
    if config.holds("PARAVIRT_SPINLOCKS&QUEUED_SPINLOCKS"):
        code["pv_lock_ops.queued_spin_unlock"] = "c6 07 00" if config.bits == 64 else "c6 00 00"
        guard["pv_lock_ops.queued_spin_unlock"] = NATIVE_UNLOCK
        if config.bits == 64:
            code["pv_lock_ops.unlock_kick"] = "90"  # nop
            guard["pv_lock_ops.unlock_kick"] = "__pv_ticket_unlock_slowpath"
    return inline_all("native_patch", "3.10.0-1160.el7 arch/x86/kernel/paravirt_patch_64.c", code, guard=guard)


ERA = v3_10.ERA.then(
    "3.10-el7",
    "3.10.0-1160.el7: arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt-spinlocks.c",
    began=("native_queued_spin_lock_slowpath",),
)._replace(
    arrays=(Array("paravirt_patch_template", STRUCTS),),
    configs=(
        *v3_10.ERA.configs,
        Option("QUEUED_SPINLOCKS", "queued spinlocks beside the ticket locks: four more ops", depends="SMP"),
    ),
    native=native,
    native_patch=native_patch,
    release="3.10.0-1160.el7",
)
