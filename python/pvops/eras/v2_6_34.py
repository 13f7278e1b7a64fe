"""2.6.34: kmap_atomic_pte is gone, and a call that is the whole replacement is moved (1b1d9258181b).

Source: 2.6.35 arch/x86/include/asm/paravirt_types.h.
"""

from __future__ import annotations

from pvops.eras import v2_6_33
from pvops.eras.rules import Passes
from pvops.eras.structs import Config, OpsStruct, gone, made_once, refilled, renewed
from pvops.eras.template import Array


class pv_mmu_ops(v2_6_33.pv_mmu_ops):
    """Page tables of two, three (PAE) or four levels (x86-64)."""

    kmap_atomic_pte = gone


#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v2_6_33.STRUCTS, pv_mmu_ops)


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """The structures as linked."""
    return refilled(STRUCTS, v2_6_33.native(config), {})


#: arch/x86/include/asm/cpufeature.h or cpufeatures.h.
NUMBERS = v2_6_33.NUMBERS.then(
    "2.6.35",
    ncapints=9,
    nbugints=0,
    words={
        6: "NODEID_MSR:19",
        7: "CPB:2",
        8: "NPT:5 LBRV:6 SVML:7 NRIPS:8",
    },
)

ERA = v2_6_33.ERA.then("2.6.34", "2.6.35: arch/x86/include/asm/paravirt_types.h")._replace(
    arrays=(Array("paravirt_patch_template", STRUCTS),),
    configs=tuple(option for option in v2_6_33.ERA.configs if option.symbol != "HIGHPTE"),
    native=native,
    passes=(Passes("2.6.37", symbol="arch_init_ideal_nop5", since=(2, 6, 37), commit="f49aa448561f"), Passes("2.6.34")),
    numbers=(NUMBERS,),
)
