"""5.4: CR8 is neither read nor written (83b584d9c6a1).

Source: 5.4.286 arch/x86/include/asm/paravirt_types.h.
"""

from __future__ import annotations

from pvops.eras import v4_20, v5_3
from pvops.eras.structs import Config, OpsStruct, gone, refilled, renewed


class pv_cpu_ops(v4_20.pv_cpu_ops):
    """Privileged instructions."""

    read_cr8 = gone
    write_cr8 = gone


#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v5_3.STRUCTS, pv_cpu_ops)


def native(config: Config) -> tuple[OpsStruct, ...]:
    """pv_ops as linked."""
    return refilled(STRUCTS, v5_3.native(config), {})


ERA = v5_3.ERA.then("5.4", "5.4.286: arch/x86/include/asm/paravirt_types.h")._replace(
    arrays=v4_20.array(STRUCTS),
    native=native,
)
