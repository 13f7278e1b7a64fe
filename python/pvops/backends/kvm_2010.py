"""KVM as it was in 2010: page table writes handed over in a buffer, and no delay after port I/O.

Source: 2.6.33 arch/x86/kernel/kvm.c (paravirt_ops_setup), on a host with KVM_FEATURE_NOP_IO_DELAY and
KVM_FEATURE_MMU_OP. It leaves ``pv_init_ops.patch`` native, and so the ops that native_patch inlines. The clock
(kvmclock) is not here.
"""

from __future__ import annotations

from collections.abc import Mapping

from pvops.eras.definition import Era
from pvops.eras.records import InfoStruct
from pvops.eras.structs import Config, OpsStruct, Pointer
from pvops.errors import OpsError

NAME = "kvm"
ERAS = ("2.6.33",)

#: What paravirt_ops_setup() writes over the native ops.
SETUP: dict[str, dict[str, Pointer | Mapping[str, Pointer]]] = {
    "pv_cpu_ops": {
        "io_delay": "kvm_io_delay",
    },
    "pv_mmu_ops": {
        "set_pte": "kvm_set_pte",
        "set_pte_at": "kvm_set_pte_at",
        "set_pmd": "kvm_set_pmd",
        "flush_tlb_user": "kvm_flush_tlb",
        "release_pte": "kvm_release_pt",
        "release_pmd": "kvm_release_pt",
        "lazy_mode.enter": "kvm_enter_lazy_mmu",
        "lazy_mode.leave": "kvm_leave_lazy_mmu",
    },
}
#: Besides, with page tables of three levels or more; the first three with PAE alone.
PAE = {
    "set_pte_atomic": "kvm_set_pte_atomic",
    "pte_clear": "kvm_pte_clear",
    "pmd_clear": "kvm_pmd_clear",
}
LEVELS_3 = {"set_pud": "kvm_set_pud", "release_pud": "kvm_release_pt"}


def structs(era: Era, config: Config) -> tuple[OpsStruct, ...]:
    """The ops of a guest after paravirt_ops_setup().

    Raises:
        OpsError: for an era that has no such guest.
    """
    if era.name not in ERAS:
        raise OpsError(f"kvm_2010 has no ops for {era.name}; it has for {', '.join(ERAS)}")
    out = []
    for struct in era.native(config):
        name = type(struct).__name__
        changes = dict(SETUP.get(name, {}))
        if name == "pv_mmu_ops":
            changes |= PAE if config.holds("X86_PAE") else {}
            changes |= LEVELS_3 if config.holds("X86_PAE|X86_64") else {}
            changes |= {"set_pgd": "kvm_set_pgd"} if config.holds("X86_64") else {}
        out.append(struct.replace(**changes))
    return tuple(out)


def info(era: Era) -> InfoStruct:
    """pv_info of a guest; its kernel runs in ring 0 of its own."""
    return era.info.replace(name="KVM", paravirt_enabled=1)
