"""Red Hat's 2.6.32: steal_clock as in 3.1, ops of huge pages as in 2.6.38, and calls in replacements are moved.

Source: 2.6.32-642.6.2.el6 arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, paravirt_patch_64.c,
alternative.c, arch/x86/include/asm/cpufeature.h.
"""

from __future__ import annotations

from pvops.eras import v2_6_26, v2_6_33
from pvops.eras.rules import Passes
from pvops.eras.structs import Config, Op, OpsStruct, gone, made_once, refilled, renewed
from pvops.eras.template import Array
from pvops.eras.v2_6_24_rc1 import paravirt_nop


class pv_time_ops(v2_6_33.pv_time_ops):
    """Time."""

    get_tsc_khz = gone
    steal_clock = Op(after="sched_clock", doc="nanoseconds stolen from this CPU by the hypervisor")


class pv_mmu_ops(v2_6_33.pv_mmu_ops):
    """Page tables of two, three (PAE) or four levels (x86-64)."""

    set_pmd_at = Op(
        after="set_pmd", doc="write a page middle directory entry, knowing whose it is and for which address"
    )
    pmd_update = Op(after="pte_update_defer", doc="as pte_update, of a page middle directory entry")
    pmd_update_defer = Op(after="pmd_update", doc="as pte_update_defer, of a page middle directory entry")
    kmap_atomic_pte = gone


#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v2_6_33.STRUCTS, pv_time_ops, pv_mmu_ops)


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """The structures as linked."""
    return refilled(
        STRUCTS,
        v2_6_33.native(config),
        {
            "pv_time_ops.steal_clock": "native_steal_clock",
            "pv_mmu_ops.set_pmd_at": "native_set_pmd_at",
            "pv_mmu_ops.pmd_update": paravirt_nop,
            "pv_mmu_ops.pmd_update_defer": paravirt_nop,
        },
    )


#: Words of features: KABI holds NCAPINTS to 9, and four words more lie elsewhere (RHNCAPINTS).
NUMBERS = v2_6_33.NUMBERS.then(
    "2.6.32-642.el6",
    ncapints=13,
    nbugints=0,
    words={
        3: "UNFAIR_SPINLOCK:29",
        4: "PCID:17 TSC_DEADLINE_TIMER:24 F16C:29 RDRAND:30",
        6: "-SSE5 XOP:11 LWP:15 FMA4:16 TCE:17 NODEID_MSR:19 TBM:21 TOPOEXT:22 PERFCTR_CORE:23 PERFCTR_NB:24 "
        "PERFCTR_L2:28",
        7: "CPB:2 EPB:3 XSAVEOPT:4 PLN:5 PTS:6 DTHERM:7 HWP:10 HWP_NOTIFY:11 HWP_ACT_WINDOW:12 HWP_EPP:13 "
        "HWP_PKG_REQ:14",
        8: (
            "NPT:5 LBRV:6 SVML:7 NRIPS:8 TSCRATEMSR:9 VMCBCLEAN:10 FLUSHBYASID:11 DECODEASSISTS:12 PAUSEFILTER:13 "
            "PFTHRESHOLD:14"
        ),
        9: (
            "FSGSBASE:0 BMI1:3 HLE:4 AVX2:5 SMEP:7 BMI2:8 ERMS:9 INVPCID:10 RTM:11 CQM:12 AVX512F:16 RDSEED:18 ADX:19 "
            "AVX512PF:26 AVX512ER:27 AVX512CD:28"
        ),
        11: "CQM_LLC:1",
        12: "CQM_OCCUP_LLC:0",
    },
)

ERA = v2_6_33.ERA.then(
    "2.6.32-el6",
    "2.6.32-642.6.2.el6: arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, alternative.c",
    began=("native_steal_clock",),
)._replace(
    arrays=(Array("paravirt_patch_template", STRUCTS),),
    configs=tuple(
        option._replace(default=(True, False)) if option == v2_6_26.EXEC_SHIELD else option
        for option in v2_6_33.ERA.configs
    ),
    native=native,
    passes=(Passes("2.6.34"),),
    numbers=(NUMBERS,),
    release="2.6.32-642.el6",
)
