"""4.18 as RHEL 8 has it: 4.19's table, with room for members to come behind three structures (RH_KABI_RESERVE).

Sources: 4.18.0-147.el8 arch/x86/include/asm/paravirt_types.h, include/linux/rh_kabi.h, arch/x86/kernel/paravirt.c.
"""

from __future__ import annotations

from pvops.eras import v4_10, v4_14, v4_18, v4_19
from pvops.eras.structs import Config, Op, OpsStruct, made_once, refilled, renewed
from pvops.eras.template import Array

_ROOM = "room for a member of a later release"


class pv_irq_ops(v4_14.pv_irq_ops):
    """Interrupt state. The hot four preserve every register but the returned one."""

    rh_reserved1 = Op(doc=_ROOM)
    rh_reserved2 = Op(doc=_ROOM)


class pv_mmu_ops(v4_19.pv_mmu_ops):
    """Page tables of two to five levels."""

    rh_reserved1 = Op(doc=_ROOM)
    rh_reserved2 = Op(doc=_ROOM)
    rh_reserved3 = Op(doc=_ROOM)
    rh_reserved4 = Op(doc=_ROOM)


class pv_lock_ops(v4_10.pv_lock_ops):
    """Queued spinlocks."""

    rh_reserved1 = Op(doc=_ROOM)


#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v4_19.STRUCTS, pv_irq_ops, pv_mmu_ops, pv_lock_ops)


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """The structures as linked."""
    room = {f"{s.__name__}.{op}": None for s in STRUCTS for op in s.ops if op.startswith("rh_reserved")}
    return refilled(STRUCTS, v4_19.native(config), room)


ERA = v4_18.ERA.then(
    "4.18-el8", "4.18.0-147.el8: arch/x86/include/asm/paravirt_types.h, include/linux/rh_kabi.h"
)._replace(
    arrays=(Array("paravirt_patch_template", STRUCTS),),
    native=native,
    release="4.18.0-147.el8",
)
