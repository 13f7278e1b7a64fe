"""4.11: set_pud_at, for transparent huge pages of 1 GiB (a00cc7d9dd93).

Source: 4.12 arch/x86/include/asm/paravirt_types.h; 4.11 was not read.
"""

from __future__ import annotations

from pvops.eras import v4_5, v4_10
from pvops.eras.structs import Config, Op, OpsStruct, made_once, refilled, renewed
from pvops.eras.template import Array


class pv_mmu_ops(v4_5.pv_mmu_ops):
    """Page tables."""

    set_pud_at = Op(
        after="set_pmd_at", doc="write a page upper directory entry, knowing whose it is and for which address"
    )


#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v4_10.STRUCTS, pv_mmu_ops)


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """The structures as linked."""
    return refilled(STRUCTS, v4_10.native(config), {"pv_mmu_ops.set_pud_at": "native_set_pud_at"})


ERA = v4_10.ERA.then("4.11", "4.12: arch/x86/include/asm/paravirt_types.h")._replace(
    arrays=(Array("paravirt_patch_template", STRUCTS),),
    native=native,
)
