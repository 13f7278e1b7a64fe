"""3.0 with lazy_mode.flush, which stable releases took over from 3.9 (511ba86e1d38): the ops behind it move up.

Source: 3.10.4 arch/x86/include/asm/paravirt_types.h has the op, 2.6.39 and 3.2.7 the others. No image of such a release
was at hand.
"""

from __future__ import annotations

from pvops.eras import v2_6_24, v2_6_38, v3_0
from pvops.eras.structs import Config, Op, OpsStruct, made_once, refilled, renewed
from pvops.eras.template import Array
from pvops.eras.v2_6_24_rc1 import paravirt_nop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.definition import Era


class pv_lazy_ops(v2_6_24.pv_lazy_ops):
    """Deferred updates."""

    flush = Op(doc="carry out what was collected, and go on collecting")


class pv_mmu_ops(v2_6_38.pv_mmu_ops):
    """Page tables of two, three (PAE) or four levels (x86-64)."""

    lazy_mode = pv_lazy_ops


def flushing(older: Era, name: str, release: str) -> Era:
    """An older era with the op: all else is as it was."""
    structs = renewed(older.structs, pv_mmu_ops)

    @made_once
    def native(config: Config) -> tuple[OpsStruct, ...]:
        return refilled(structs, older.native(config), {"pv_mmu_ops.lazy_mode.flush": paravirt_nop})

    return older.then(name, "3.10.4: arch/x86/include/asm/paravirt_types.h")._replace(
        arrays=(Array("paravirt_patch_template", structs),), native=native, release=release
    )


ERA = flushing(v3_0.ERA, "3.0-flush", release="3.0.101")
