"""3.12: ticket locks are inline, lock_spinning waits and unlock_kick wakes (545ac13892ab, 96f853eaa889).

Source: 3.13.10 arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt-spinlocks.c.
"""

from __future__ import annotations

from pvops.eras import v3_10
from pvops.eras.structs import Config, Op, OpsStruct, made_once, refilled, renewed
from pvops.eras.template import Array
from pvops.eras.v2_6_24_rc1 import paravirt_nop


class pv_lock_ops(OpsStruct):
    """The slow path of ticket locks."""

    called = "PARAVIRT_SPINLOCKS"
    export = "EXPORT_SYMBOL"

    lock_spinning = Op(callee_save=True, doc="wait for the lock, in the hypervisor")
    unlock_kick = Op(doc="wake the CPU whose ticket is next")


#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v3_10.STRUCTS, pv_lock_ops)


def native_locks(config: Config) -> dict[str, str | None]:
    """The lock ops as linked, where there is more than one CPU."""
    held = paravirt_nop if config.holds("SMP") else None
    return {"pv_lock_ops.lock_spinning": held, "pv_lock_ops.unlock_kick": held}


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """The structures as linked."""
    return refilled(STRUCTS, v3_10.native(config), native_locks(config))


#: arch/x86/include/asm/cpufeature.h or cpufeatures.h.
NUMBERS = v3_10.NUMBERS.then("3.13", ncapints=10, nbugints=1, words={3: "ALWAYS:21"})

ERA = v3_10.ERA.then("3.12", "3.13.10: arch/x86/include/asm/paravirt_types.h")._replace(
    arrays=(Array("paravirt_patch_template", STRUCTS),),
    native=native,
    numbers=(NUMBERS,),
)
