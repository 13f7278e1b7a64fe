"""3.5: model-specific registers are read and written by one op each; Intel's CPUs get their own nops again.

Sources: 3.6.5 arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/alternative.c.
"""

from __future__ import annotations

from pvops.eras import v2_6_33, v3_1, v3_3
from pvops.eras.nops import ideal_nops
from pvops.eras.structs import Config, OpsStruct, gone, refilled, renewed
from pvops.eras.template import Array


class pv_cpu_ops(v2_6_33.pv_cpu_ops):
    """Privileged instructions."""

    rdmsr_regs = gone
    wrmsr_regs = gone


#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v3_1.STRUCTS, pv_cpu_ops)


def native(config: Config) -> tuple[OpsStruct, ...]:
    """The structures as linked."""
    return refilled(STRUCTS, v3_1.native(config), {})


ERA = v3_3.ERA.then("3.5", "3.6.5: arch/x86/include/asm/paravirt_types.h")._replace(
    arrays=(Array("paravirt_patch_template", STRUCTS),),
    native=native,
    nops=ideal_nops(amd=False, hygon=False),
)
