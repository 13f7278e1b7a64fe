"""5.10.133: the stable series after the return thunks of July 2022, with 5.19's alternatives and without two ops.

Sources: Debian 5.10.262 arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, paravirt_patch.c,
asm-offsets.c, alternative.c.
"""

from __future__ import annotations

from pvops.eras import numbers_5_10, v4_20, v5_10_0
from pvops.eras.records import ALT_INSTR_12, PATCH_SITE_5_10
from pvops.eras.structs import Config, OpsStruct, gone, made_once, refilled, renewed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.patching import PatchFunction

paravirt_nop = v4_20.paravirt_nop


class pv_cpu_ops(v5_10_0.pv_cpu_ops):
    """Privileged instructions."""

    usergs_sysret64 = gone
    swapgs = gone


#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v5_10_0.STRUCTS, pv_cpu_ops)


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """pv_ops as linked."""
    return refilled(STRUCTS, v5_10_0.native(config), {})


def native_patch(config: Config) -> PatchFunction:
    """Inlines by type; too little room is a BUG."""
    gone_ops = ("pv_cpu_ops.usergs_sysret64", "pv_cpu_ops.swapgs")
    return v4_20.inlined("5.10.262 arch/x86/kernel/paravirt_patch.c", config, gone_ops)


ERA = v5_10_0.ERA.then(
    "5.10",
    "Debian 5.10.262: arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, paravirt_patch.c",
    ended=("native_usergs_sysret64",),
)._replace(
    arrays=v4_20.array(STRUCTS),
    native=native,
    native_patch=native_patch,
    offsets=(
        *(line for line in v5_10_0.ERA.offsets if line.member not in ("cpu.usergs_sysret64", "cpu.swapgs")),
        *(line for line in v4_20.OFFSETS if line.symbol == "PV_MMU_read_cr2"),
    ),
    records=(PATCH_SITE_5_10, ALT_INSTR_12),
    numbers=(numbers_5_10.declared,),
)
