"""5.12: usergs_sysret64, swapgs and restore_fl are gone, as alternatives (afd30525a659, 53c9d9240944, ab234a260b1f).

Source: 5.12.9 arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt_patch.c.
"""

from __future__ import annotations

from pvops.eras import v4_20, v5_10, v5_11
from pvops.eras.rules import Passes
from pvops.eras.structs import Config, OpsStruct, gone, made_once, refilled, renewed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.patching import PatchFunction


class pv_irq_ops(v4_20.pv_irq_ops):
    """Interrupt state."""

    restore_fl = gone


#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v5_10.STRUCTS, pv_irq_ops)


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """pv_ops as linked."""
    return refilled(STRUCTS, v5_10.native(config), {})


def native_patch(config: Config) -> PatchFunction:
    """Inlines by type; too little room is a BUG."""
    gone_ops = ("pv_cpu_ops.usergs_sysret64", "pv_cpu_ops.swapgs", "pv_irq_ops.restore_fl")
    return v4_20.inlined("5.12.9 arch/x86/kernel/paravirt_patch.c", config, gone_ops)


#: arch/x86/include/asm/cpufeature.h or cpufeatures.h.
NUMBERS = v5_11.NUMBERS.then(
    "5.12.9",
    ncapints=20,
    nbugints=1,
    words={
        3: "-SME_COHERENT",
        7: "-SME -SEV",
        8: "-SEV_ES -VM_PAGE_FLUSH",
        12: "AVX_VNNI:4",
        15: "SVME_ADDR_CHK:28",
        19: "SME:0 SEV:1 VM_PAGE_FLUSH:2 SEV_ES:3 SME_COHERENT:10",
    },
)

ERA = v5_11.ERA.then(
    "5.12",
    "5.12.9: arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt_patch.c",
    ended=("native_usergs_sysret64",),
)._replace(
    arrays=v4_20.array(STRUCTS),
    native=native,
    native_patch=native_patch,
    offsets=tuple(line for line in v5_11.ERA.offsets if line.member not in ("cpu.usergs_sysret64", "cpu.swapgs")),
    # xor5rax[] of static_call.c: data16 data16 xor %rax, %rax.
    passes=(Passes("5.12", constant="66 66 48 31 c0"), *v5_11.ERA.passes),
    numbers=(NUMBERS,),
)
