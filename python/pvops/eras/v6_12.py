"""6.12: safe_halt and halt are ops without CONFIG_PARAVIRT_XXL too (22cc5ca5de52, in stable kernels).

Sources: Debian 6.12 arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, asm-offsets_64.c.
"""

from __future__ import annotations

from pvops.eras import numbers_6_12, v4_20, v5_12, v6_4, v6_8
from pvops.eras.rules import Passes
from pvops.eras.structs import Config, Op, OpsStruct, made_once, refilled, renewed

paravirt_nop = v6_8.paravirt_nop


class pv_irq_ops(v5_12.pv_irq_ops):
    """Interrupt state."""

    safe_halt = Op()
    halt = Op()


pv_mmu_ops = v6_4.pv_mmu_ops
#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v6_4.STRUCTS, pv_irq_ops)


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """pv_ops as linked."""
    return refilled(STRUCTS, v6_8.native(config), {})


ERA = v6_8.ERA.then(
    "6.12", "Debian 6.12.117: arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c"
)._replace(
    arrays=v4_20.array(STRUCTS),
    native=native,
    passes=(Passes("6.12"),),
    numbers=(numbers_6_12.declared,),
)
