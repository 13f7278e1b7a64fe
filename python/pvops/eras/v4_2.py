"""4.2: queued spinlocks (f233f7f1581e); AMD's newer CPUs get P6 nops (f21262b8e092).

Sources: 4.2 and 4.4.1 arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt-spinlocks.c,
paravirt_patch_{32,64}.c, alternative.c.
"""

from __future__ import annotations

from pvops.eras import v2_6_24_rc1 as seed
from pvops.eras import v3_10, v3_12, v3_15, v4_1
from pvops.eras.nops import ideal_nops
from pvops.eras.records import Option
from pvops.eras.structs import Config, Op, OpsStruct, ifdef, made_once, refilled, renewed
from pvops.eras.template import Array
from pvops.eras.v2_6_24_rc1 import paravirt_nop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.patching import PatchFunction


class pv_cpu_ops(v3_10.pv_cpu_ops):
    """Privileged instructions."""

    with ifdef("!X86_64"):
        irq_enable_sysexit = Op(jump=True)


class pv_lock_ops(OpsStruct):
    """Queued spinlocks, or the slow path of ticket locks."""

    called = "PARAVIRT_SPINLOCKS"
    export = "EXPORT_SYMBOL"

    with ifdef("QUEUED_SPINLOCKS"):
        queued_spin_lock_slowpath = Op(doc="take a lock that somebody holds")
        queued_spin_unlock = Op(callee_save=True, doc="let the lock go, and wake who waits for it")
        wait = Op(doc="let the hypervisor run somebody else until kicked, if the byte still has this value")
        kick = Op(doc="wake a CPU that waits")

    with ifdef("!QUEUED_SPINLOCKS"):
        lock_spinning = Op(callee_save=True)
        unlock_kick = Op()


#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v3_12.STRUCTS, pv_cpu_ops, pv_lock_ops)

NATIVE_UNLOCK = "__raw_callee_save___native_queued_spin_unlock"


def queued(config: Config) -> dict[str, str | None]:
    """The ops of queued locks as linked, where there is more than one CPU."""
    functions = {
        "queued_spin_lock_slowpath": "native_queued_spin_lock_slowpath",
        "queued_spin_unlock": NATIVE_UNLOCK,
        "wait": paravirt_nop,
        "kick": paravirt_nop,
    }
    return {f"pv_lock_ops.{op}": name if config.holds("SMP") else None for op, name in functions.items()}


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """The structures as linked."""
    return refilled(STRUCTS, v3_12.native(config), v3_12.native_locks(config) | queued(config))


def patch(config: Config, source: str, code: dict[str, str], locks: dict[str, str]) -> PatchFunction:
    """Inlines by type, but the locks only while their op is the native one; too little room keeps the indirect call.

    Args:
        config: what is configured.
        source: release and file.
        code: op → instructions.
        locks: of pv_lock_ops: op → the function it holds while its code is inlined.
    """
    from pvops.eras.patching import inline_all

    guard = {}
    if config.holds("PARAVIRT_SPINLOCKS"):
        unlock = "c6 07 00" if config.bits == 64 else "c6 00 00"  # movb $0, (%rdi); movb $0, (%eax)
        code = code | {"pv_lock_ops.queued_spin_unlock": unlock}
        guard = {"pv_lock_ops.queued_spin_unlock": NATIVE_UNLOCK} | locks
    return inline_all("native_patch", source, code, guard=guard)


#: DEF_NATIVE of paravirt_patch_32.c.
DEF_NATIVE_32 = seed.DEF_NATIVE


def native_patch(config: Config) -> PatchFunction:
    """As `patch` says."""
    code = v3_15.DEF_NATIVE_64 if config.bits == 64 else DEF_NATIVE_32
    return patch(config, f"4.2 arch/x86/kernel/paravirt_patch_{config.bits}.c", code, {})


OPTIONS = (
    *v4_1.ERA.configs,
    Option("QUEUED_SPINLOCKS", "queued spinlocks in place of ticket locks: four ops for two", depends="SMP"),
)

ERA = v4_1.ERA.then(
    "4.2",
    "4.2 and 4.4.1: arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt-spinlocks.c, paravirt_patch_64.c",
    began=("native_queued_spin_lock_slowpath",),
)._replace(
    arrays=(Array("paravirt_patch_template", STRUCTS),),
    configs=OPTIONS,
    native=native,
    native_patch=native_patch,
    nops=ideal_nops(hygon=False, k8=False),
)
