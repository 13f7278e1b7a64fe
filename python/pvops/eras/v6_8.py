"""6.8: there is no .parainstructions any more, every call of an op is a row of .altinstructions (f7af6977621a).

Sources: 6.8 arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, alternative.c. An op's number here is
its index in pv_ops.
"""

from __future__ import annotations

from pvops.eras import v5_18, v6_4, v6_5
from pvops.eras.records import ALT_INSTR_14, no_clobbers
from pvops.eras.rules import Passes
from pvops.eras.structs import Config, OpsStruct, made_once, refilled

paravirt_nop = "nop_func"


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """pv_ops as linked (tlb_remove_table since 6.6)."""
    return refilled(
        v6_4.STRUCTS,
        v6_4.native(config),
        {"pv_mmu_ops.tlb_remove_table": "native_tlb_remove_table"},
        renamed={v5_18.paravirt_nop: paravirt_nop},
    )


#: arch/x86/include/asm/cpufeature.h or cpufeatures.h.
NUMBERS = v6_5.NUMBERS.then(
    "6.8",
    ncapints=21,
    nbugints=2,
    words={
        3: "ZEN5:5 CLEAR_CPU_BUF:18",
        7: "-INVPCID_SINGLE TDX_HOST_PLATFORM:7",
        11: "USER_SHSTK:23 APIC_MSRS_FENCE:27 ZEN2:28 ZEN3:29 ZEN4:30 ZEN1:31",
        16: "SHSTK:7",
        19: "DEBUG_SWAP:14",
        20: "WRMSR_XX_BASE_NS:1",
    },
    bugs="TDX_PW_MCE:31",
)

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
    passes=(Passes("6.8"),),
    sites=None,
    functions=("BUG_func", paravirt_nop),
    numbers=(NUMBERS,),
)
