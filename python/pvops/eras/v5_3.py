"""5.3: code that is too long for its site is a BUG (fb2af0712fe8), and read_cr2 is callee-save.

Sources: 5.3.1 arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, paravirt_patch.c (46938cc8ab91).
"""

from __future__ import annotations

from pvops.eras import numbers_5_3, v4_20
from pvops.eras.structs import Config, Op, OpsStruct, ifdef, made_once, refilled, renewed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.patching import PatchFunction


class pv_mmu_ops(v4_20.pv_mmu_ops):
    """TLB flushes always; page tables with CONFIG_PARAVIRT_XXL."""

    with ifdef("PARAVIRT_XXL"):
        read_cr2 = Op(callee_save=True)


#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v4_20.STRUCTS, pv_mmu_ops)


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """pv_ops as linked."""
    return refilled(STRUCTS, v4_20.native(config), {})


def native_patch(config: Config) -> PatchFunction:
    """Inlines by type; too little room is a BUG."""
    return v4_20.inlined("5.3 arch/x86/kernel/paravirt_patch.c", config)


ERA = v4_20.ERA.then(
    "5.3", "5.3.1: arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, paravirt_patch.c"
)._replace(
    arrays=v4_20.array(STRUCTS),
    native=native,
    native_patch=native_patch,
    paravirt=v4_20.ERA.paravirt and v4_20.ERA.paravirt._replace(era="5.3", no_room="bug"),
    numbers=(numbers_5_3.declared,),
)
