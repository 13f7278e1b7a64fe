"""4.14: exception frames need no adjusting, and descriptor tables no storing; PTE updates are told by nobody.

Sources: 4.14.177 and 4.15.18 arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c,
paravirt_patch_{32,64}.c.
"""

from __future__ import annotations

from pvops.eras import v2_6_33, v4_2, v4_10, v4_12
from pvops.eras.records import OFFSET
from pvops.eras.structs import Config, Op, OpsStruct, gone, refilled, renewed
from pvops.eras.template import Array

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.patching import PatchFunction


class pv_cpu_ops(v4_10.pv_cpu_ops):
    """Privileged instructions."""

    read_cr4 = gone
    store_idt = gone


class pv_irq_ops(v2_6_33.pv_irq_ops):
    """Interrupt state. The hot four preserve every register but the returned one."""

    adjust_exception_frame = gone


class pv_mmu_ops(v4_12.pv_mmu_ops):
    """Page tables of two to five levels."""

    flush_tlb_one_user = Op(instead_of="flush_tlb_single", doc="forget this CPU's translation of one user address")
    set_pmd_at = gone
    set_pud_at = gone
    pte_update = gone


#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v4_12.STRUCTS, pv_cpu_ops, pv_irq_ops, pv_mmu_ops)


def native(config: Config) -> tuple[OpsStruct, ...]:
    """The structures as linked."""
    return refilled(
        STRUCTS,
        v4_12.native(config),
        {
            "pv_mmu_ops.read_cr3": "__native_read_cr3",
            "pv_mmu_ops.flush_tlb_one_user": "native_flush_tlb_one_user",
        },
    )


#: DEF_NATIVE, by pointer size.
DEF_NATIVE = {
    bits: {op: code for op, code in older.items() if op != "pv_mmu_ops.flush_tlb_single"}
    for bits, older in v4_10.DEF_NATIVE.items()
}


def native_patch(config: Config) -> PatchFunction:
    """As `v4_2.patch` says."""
    code = dict(DEF_NATIVE[config.bits])
    if config.holds("PARAVIRT_SPINLOCKS"):
        # xor %rax, %rax; xor %eax, %eax
        code["pv_lock_ops.vcpu_is_preempted"] = "48 31 c0" if config.bits == 64 else "31 c0"
    return v4_2.patch(config, f"4.15.18 arch/x86/kernel/paravirt_patch_{config.bits}.c", code, v4_10.PREEMPTED)


ERA = v4_12.ERA.then("4.14", "4.15.18: arch/x86/include/asm/paravirt_types.h")._replace(
    arrays=(Array("paravirt_patch_template", STRUCTS),),
    native=native,
    native_patch=native_patch,
    offsets=(
        *(line for line in v4_12.ERA.offsets if line.member != "adjust_exception_frame"),
        OFFSET("PV_IRQ_save_fl", "pv_irq_ops", "save_fl", config="X86_64&DEBUG_ENTRY"),
    ),
)
