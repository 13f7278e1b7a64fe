"""2.6.23 as released: 2.6.22's flat struct paravirt_ops with lguest and Xen, patched in a buffer (ab144f5ec64c).

The era ``2.6.23`` is the same time's: the structure grouped, one patch before the post (`pvops.eras.v2_6_23`).

Sources: 2.6.23 include/asm-i386/paravirt.h, arch/i386/kernel/paravirt.c, alternative.c.
"""

from __future__ import annotations

from pvops.eras import v2_6_22
from pvops.eras import v2_6_24_rc1 as seed
from pvops.eras.rules import ParavirtRules
from pvops.eras.structs import Config, OpsStruct, made_once
from pvops.eras.template import Array

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.patching import PatchFunction


class paravirt_ops(v2_6_22.flat):
    """As released, with its data (see `pvops.eras.v2_6_23.paravirt_ops`)."""


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """The structure as linked."""
    return (v2_6_22.flattened(paravirt_ops, seed.native(config)),)


def native_patch(config: Config) -> PatchFunction:
    """As in 2.6.22, into a buffer that holds the site as built."""
    return v2_6_22.native_patch(config)._replace(source="2.6.23 arch/i386/kernel/paravirt.c")


ERA = v2_6_22.ERA.then(
    "2.6.23-flat",
    "2.6.23: include/asm-i386/paravirt.h, arch/i386/kernel/paravirt.c",
    began=("paravirt_disable_iospace",),
)._replace(
    arrays=(Array("paravirt_ops", (paravirt_ops,), symbol="paravirt_ops", export="EXPORT_SYMBOL"),),
    native=native,
    native_patch=native_patch,
    paravirt=ParavirtRules(
        "2.6.23-flat", "ud2", "_paravirt_nop", {}, True, True, "keep", "arch/i386/kernel/paravirt.c"
    ),
    backends=("native", "lguest", "vmi", "xen"),
    release="2.6.23",
)
