"""3.5: rdmsr_regs and wrmsr_regs are gone: read_msr and write_msr are all; Intel's CPUs get their own nops again.

Sources: 3.6.5 arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/alternative.c.
"""

from __future__ import annotations

from pvops.eras import v2_6_33, v2_6_38, v3_0, v3_3
from pvops.eras.nops import Mended, ideal_nops
from pvops.eras.structs import Config, OpsStruct, gone, made_once, refilled, renewed
from pvops.eras.template import Array


class pv_cpu_ops(v2_6_33.pv_cpu_ops):
    """Privileged instructions."""

    rdmsr_regs = gone
    wrmsr_regs = gone


#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v3_3.STRUCTS, pv_cpu_ops)


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """The structures as linked."""
    return refilled(STRUCTS, v3_3.native(config), {})


#: arch/x86/include/asm/cpufeature.h or cpufeatures.h.
NUMBERS = v2_6_38.NUMBERS.then(
    "3.6.5",
    ncapints=10,
    nbugints=0,
    words={
        4: "PCID:17 TSC_DEADLINE_TIMER:24",
        6: "TCE:17",
        7: "-DTS DTHERM:7 HW_PSTATE:8",
        9: "BMI1:3 HLE:4 AVX2:5 SMEP:7 BMI2:8 ERMS:9 INVPCID:10 RTM:11 RDSEED:18 ADX:19",
    },
)

ERA = v3_3.ERA.then("3.5", "3.6.5: arch/x86/include/asm/paravirt_types.h")._replace(
    arrays=(Array("paravirt_patch_template", STRUCTS),),
    native=native,
    # 3.5.0 and 3.5.1 still lack the ``break`` between the vendors (d6250a3f12ed, 3.6).
    nops=v3_0.ERA.nops._replace(mended=Mended(ideal_nops(amd=False, hygon=False, k8=False), ((3, 5, 2), (3, 6)))),
    numbers=(NUMBERS,),
)
