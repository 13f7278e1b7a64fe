"""4.10: vcpu_is_preempted, which a waiting CPU asks of the lock holder (3cded4179481); clts is gone (4f12e32f4b3d).

Sources: 4.10.17 arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt_patch_{32,64}.c.
"""

from __future__ import annotations

from pvops.eras import v4_2, v4_5, v4_9
from pvops.eras.structs import Config, Op, OpsStruct, gone, made_once, refilled, renewed
from pvops.eras.template import Array

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.patching import PatchFunction

NATIVE_PREEMPTED = "__raw_callee_save___native_vcpu_is_preempted"


class pv_cpu_ops(v4_9.pv_cpu_ops):
    """Privileged instructions."""

    clts = gone


class pv_lock_ops(v4_9.pv_lock_ops):
    """Queued spinlocks."""

    vcpu_is_preempted = Op(callee_save=True, doc="is the hypervisor running something else on that CPU?")


#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v4_9.STRUCTS, pv_cpu_ops, pv_lock_ops)


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """The structures as linked."""
    held = NATIVE_PREEMPTED if config.holds("SMP") else None
    return refilled(STRUCTS, v4_9.native(config), {"pv_lock_ops.vcpu_is_preempted": held})


#: DEF_NATIVE, by pointer size.
DEF_NATIVE = {
    bits: {op: code for op, code in older.items() if op != "pv_cpu_ops.clts"} for bits, older in v4_5.DEF_NATIVE.items()
}
#: The op of 4.10 that has a guard of its own.
PREEMPTED = {"pv_lock_ops.vcpu_is_preempted": NATIVE_PREEMPTED}


def native_patch(config: Config) -> PatchFunction:
    """As `v4_2.patch` says."""
    code = dict(DEF_NATIVE[config.bits])
    if config.holds("PARAVIRT_SPINLOCKS"):
        # xor %rax, %rax; xor %eax, %eax
        code["pv_lock_ops.vcpu_is_preempted"] = "48 31 c0" if config.bits == 64 else "31 c0"
    return v4_2.patch(config, f"4.10.17 arch/x86/kernel/paravirt_patch_{config.bits}.c", code, PREEMPTED)


ERA = v4_9.ERA.then("4.10", "4.10.17: arch/x86/include/asm/paravirt_types.h")._replace(
    arrays=(Array("paravirt_patch_template", STRUCTS),),
    native=native,
    native_patch=native_patch,
)
