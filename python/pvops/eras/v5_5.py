"""5.5: set_iopl_mask is gone: the kernel emulates iopl() (a24ca9976843).

Source: 5.6.4 arch/x86/include/asm/paravirt_types.h; 5.5 was not read.
"""

from __future__ import annotations

from pvops.eras import v4_20, v5_4
from pvops.eras.structs import Config, OpsStruct, gone, made_once, refilled, renewed


class pv_cpu_ops(v5_4.pv_cpu_ops):
    """Privileged instructions."""

    set_iopl_mask = gone


#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v5_4.STRUCTS, pv_cpu_ops)


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """pv_ops as linked."""
    return refilled(STRUCTS, v5_4.native(config), {})


ERA = v5_4.ERA.then("5.5", "5.6.4: arch/x86/include/asm/paravirt_types.h")._replace(
    arrays=v4_20.array(STRUCTS),
    native=native,
)
