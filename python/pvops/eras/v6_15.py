"""6.15: tlb_remove_table is no op any more (a37259732a7d); calls are counted before alternatives (ab9fea59487d).

Sources: 6.18.2 arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/{paravirt,alternative}.c.
"""

from __future__ import annotations

from pvops.eras import numbers_6_18, v4_20, v6_14
from pvops.eras.rules import Passes
from pvops.eras.structs import Config, OpsStruct, gone, made_once, refilled, renewed


class pv_mmu_ops(v6_14.pv_mmu_ops):
    """TLB flushes always; page tables with CONFIG_PARAVIRT_XXL."""

    tlb_remove_table = gone


#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v6_14.STRUCTS, pv_mmu_ops)


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """pv_ops as linked."""
    return refilled(STRUCTS, v6_14.native(config), {})


ERA = v6_14.ERA.then(
    "6.15", "6.18.2: arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, alternative.c"
)._replace(
    arrays=v4_20.array(STRUCTS),
    native=native,
    passes=(Passes("6.15"),),
    numbers=(numbers_6_18.declared_6_15, numbers_6_18.declared_6_16),
)
