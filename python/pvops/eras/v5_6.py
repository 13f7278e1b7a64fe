"""5.6: update_io_bitmap loads the I/O permissions of a task (99bcd4a6e5b8).

Source: 5.6.4 arch/x86/include/asm/paravirt_types.h.
"""

from __future__ import annotations

from pvops.eras import v4_20, v5_5
from pvops.eras.records import Option
from pvops.eras.structs import Config, Op, OpsStruct, ifdef, made_once, refilled, renewed


class pv_cpu_ops(v5_5.pv_cpu_ops):
    """Privileged instructions."""

    with ifdef("PARAVIRT_XXL&X86_IOPL_IOPERM"):
        update_io_bitmap = Op(after="load_sp0", doc="load the current task's I/O permissions")


#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v5_5.STRUCTS, pv_cpu_ops)


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """pv_ops as linked."""
    return refilled(STRUCTS, v5_5.native(config), {"pv_cpu_ops.update_io_bitmap": "native_tss_update_io_bitmap"})


ERA = v5_5.ERA.then("5.6", "5.6.4: arch/x86/include/asm/paravirt_types.h")._replace(
    arrays=v4_20.array(STRUCTS),
    configs=(*v5_5.ERA.configs, Option("X86_IOPL_IOPERM", "I/O permission bitmaps: an op or two")),
    native=native,
)
