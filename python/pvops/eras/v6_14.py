"""6.14: wbinvd is no op any more (29188c160061).

Sources: 6.18.2 arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, without what came later.
"""

from __future__ import annotations

from pvops.eras import v4_20, v5_13, v6_12
from pvops.eras.structs import Config, OpsStruct, gone, made_once, refilled, renewed


class pv_cpu_ops(v5_13.pv_cpu_ops):
    """Privileged instructions."""

    wbinvd = gone


pv_mmu_ops = v6_12.pv_mmu_ops

#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v6_12.STRUCTS, pv_cpu_ops)


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """pv_ops as linked."""
    return refilled(STRUCTS, v6_12.native(config), {})


ERA = v6_12.ERA.then("6.14", "6.18.2: arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c")._replace(
    arrays=v4_20.array(STRUCTS), native=native
)
