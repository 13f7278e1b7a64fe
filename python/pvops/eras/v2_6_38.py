"""2.6.38: huge pages have ops: set_pmd_at, pmd_update, pmd_update_defer.

Source: 2.6.39 arch/x86/include/asm/paravirt_types.h.
"""

from __future__ import annotations

from pvops.eras import v2_6_34
from pvops.eras.rules import Passes
from pvops.eras.structs import Config, Op, OpsStruct, gone, made_once, refilled, renewed
from pvops.eras.template import Array
from pvops.eras.v2_6_24_rc1 import paravirt_nop


class pv_mmu_ops(v2_6_34.pv_mmu_ops):
    """Page tables of two, three (PAE) or four levels (x86-64)."""

    alloc_pmd_clone = gone
    set_pmd_at = Op(
        after="set_pmd", doc="write a page middle directory entry, knowing whose it is and for which address"
    )
    pmd_update = Op(after="pte_update_defer", doc="as pte_update, of a page middle directory entry")
    pmd_update_defer = Op(after="pmd_update", doc="as pte_update_defer, of a page middle directory entry")


#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v2_6_34.STRUCTS, pv_mmu_ops)


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """The structures as linked."""
    return refilled(
        STRUCTS,
        v2_6_34.native(config),
        {
            "pv_mmu_ops.set_pmd_at": "native_set_pmd_at",
            "pv_mmu_ops.pmd_update": paravirt_nop,
            "pv_mmu_ops.pmd_update_defer": paravirt_nop,
        },
    )


#: arch/x86/include/asm/cpufeature.h or cpufeatures.h.
NUMBERS = v2_6_34.NUMBERS.then(
    "2.6.39",
    ncapints=10,
    nbugints=0,
    words={
        3: "-AMDC1E",
        4: "F16C:29 RDRAND:30",
        6: "-SSE5 XOP:11 LWP:15 FMA4:16 TBM:21 TOPOEXT:22 PERFCTR_CORE:23",
        7: "EPB:3 XSAVEOPT:4 PLN:5 PTS:6 DTS:7",
        8: "TSCRATEMSR:9 VMCBCLEAN:10 FLUSHBYASID:11 DECODEASSISTS:12 PAUSEFILTER:13 PFTHRESHOLD:14",
        9: "FSGSBASE:0",
    },
)

ERA = v2_6_34.ERA.then("2.6.38", "2.6.39: arch/x86/include/asm/paravirt_types.h")._replace(
    arrays=(Array("paravirt_patch_template", STRUCTS),),
    native=native,
    passes=(Passes("2.6.37"),),
    numbers=(NUMBERS,),
)
