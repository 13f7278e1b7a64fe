"""6.8: there is no .parainstructions any more, every call is a record of .altinstructions (f7af6977621a).

Sources: 6.8 arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, alternative.c. An op's number here is
its index in pv_ops.
"""

from __future__ import annotations

from pvops.eras import v6_5
from pvops.eras.records import ALT_INSTR_14, no_clobbers
from pvops.eras.rules import Passes
from pvops.eras.structs import Config, OpsStruct, refilled

paravirt_nop = "nop_func"


def native(config: Config) -> tuple[OpsStruct, ...]:
    """pv_ops as linked (tlb_remove_table since 6.6)."""
    return refilled(v6_5.STRUCTS, v6_5.native(config), {"pv_mmu_ops.tlb_remove_table": "native_tlb_remove_table"})


ERA = v6_5.ERA.then(
    "6.8",
    "6.8: arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, alternative.c",
    ended=(".parainstructions", "paravirt_patch"),
)._replace(
    native=native,
    native_patch=None,
    records=(ALT_INSTR_14,),
    clobbers=no_clobbers,
    paravirt=None,
    passes=(Passes("6.12"),),
    sites=None,
    functions=("BUG_func", paravirt_nop),
)
