"""3.0: nops are chosen once at boot (dc326fca2b64), for every Intel CPU by a mistake like for the others.

A ``break`` is missing between the vendors; d6250a3f12ed (3.6, and the stable releases of 15 August 2012) puts it there.
On i386 nothing refers to P6 nops then, and gcc leaves their table out: an image without it has no break.
Oracle's 2.6.39-uek is 3.0 too: ``arch_init_ideal_nops()`` (dc326fca2b64) tells.
Sources: 3.2.7 arch/x86/kernel/alternative.c; 3.10.4 arch/x86/include/asm/paravirt_types.h has lazy_mode.flush.
"""

from __future__ import annotations

from pvops.eras import v2_6_24, v2_6_38
from pvops.eras.nops import Mended, ideal_nops
from pvops.eras.records import Option
from pvops.eras.rules import Passes
from pvops.eras.structs import Config, Op, OpsStruct, made_once, refilled, renewed
from pvops.eras.template import Array
from pvops.eras.v2_6_24_rc1 import paravirt_nop


class pv_lazy_ops(v2_6_24.pv_lazy_ops):
    """Deferred updates."""

    flush = Op(config="LAZY_FLUSH", doc="carry out what was collected, and go on collecting")


class pv_mmu_ops(v2_6_38.pv_mmu_ops):
    """Page tables of two, three (PAE) or four levels (x86-64)."""

    lazy_mode = pv_lazy_ops


#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v2_6_38.STRUCTS, pv_mmu_ops)


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """The structures as linked."""
    return refilled(STRUCTS, v2_6_38.native(config), {"pv_mmu_ops.lazy_mode.flush": paravirt_nop})


#: No image of such a release was at hand.
LAZY_FLUSH = Option(
    "LAZY_FLUSH",
    "lazy_mode.flush (511ba86e1d38, 3.9), which stable releases took over: what stands behind it moves up",
    (False, False),
    patch=True,
)

ERA = v2_6_38.ERA.then("3.0", "3.2.7: arch/x86/kernel/alternative.c", began=("arch_init_ideal_nops",))._replace(
    arrays=(Array("paravirt_patch_template", STRUCTS),),
    configs=(*v2_6_38.ERA.configs, LAZY_FLUSH),
    native=native,
    # Stable kernels since 3.16.5x have the rows and their padding from 4.1.
    passes=(Passes("3.16", layout="padlen"), Passes("3.0")),
    nops=ideal_nops(intel=False, amd=False, hygon=False, k8=False)._replace(
        mended=Mended(ideal_nops(amd=False, hygon=False, k8=False), ((3, 0, 41), (3, 2, 28), (3, 4, 9)))
    ),
    backends=("native", "kvm", "xen", "xen-hvm", "vmware", "hyperv"),
)
