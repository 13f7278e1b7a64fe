"""Debian's 3.2 (wheezy): lazy_mode.flush, which 3.2's stable releases took over from 3.9 (511ba86e1d38), stands behind
all other ops, so that modules of older builds still fit.

Source: an image of 3.2.60-1+deb7u3. Its header was not at hand, so the structure's name is this project's. The op's
type follows those of pv_lock_ops, arch_flush_lazy_mmu_mode() calls it, and xen_init_mmu_ops() assigns it.
"""

from __future__ import annotations

from pvops.eras import v3_1
from pvops.eras.structs import Config, Op, OpsStruct, made_once
from pvops.eras.template import Array
from pvops.eras.v2_6_24_rc1 import paravirt_nop


class pv_lazy_flush_ops(OpsStruct):
    """The op that came without a place for it."""

    flush = Op(doc="carry out what was collected, and go on collecting")


#: The order of struct paravirt_patch_template.
STRUCTS: tuple[type[OpsStruct], ...] = (*v3_1.STRUCTS, pv_lazy_flush_ops)


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """The structures as linked."""
    return (*v3_1.native(config), pv_lazy_flush_ops(flush=paravirt_nop))


ERA = v3_1.ERA.then("3.2-deb7", "3.2.60-1+deb7u3: the image")._replace(
    arrays=(Array("paravirt_patch_template", STRUCTS),), native=native, release="3.2.60"
)
