"""KVM of 2010 below a guest: the guest has a CPU of its own, and asks by ``vmcall``.

Sources: arch/x86/include/asm/kvm_para.h, arch/x86/kvm/mmu.c (kvm_pv_mmu_op) of 2.6.33.
"""

from __future__ import annotations

from pvops.emulate.abi.kvm import CALLS, FEATURES, SIGNATURE
from pvops.emulate.hosts.host import HostModel
from pvops.emulate.hosts.kvm_mmu import mmu_op

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.emulate.cpu import Cpu


class Kvm(HostModel):
    """The guest's kernel runs in ring 0 of its own; its CPU's state is its own."""

    name = "kvm"
    ring = 0
    entry = "kvm_entry"
    calls = CALLS

    def cpuid_leaf(self, leaf: int) -> tuple[int, int, int, int]:
        if leaf == 0x40000000:
            return (0x40000001, *SIGNATURE)
        return (FEATURES, 0, 0, 0) if leaf == 0x40000001 else super().cpuid_leaf(leaf)

    def undefined(self, cpu: Cpu, code: bytes) -> bool:
        if code[:3] != b"\x0f\x01\xc1":
            return False
        call = cpu.get("eax")
        name = CALLS.get(call)
        if name is None:
            cpu.stop("hypercall", f"unknown hypercall {call}: KVM returns -KVM_ENOSYS, which no guest of 2010 reads")
            return True
        self.called(name)
        cpu.set("eax", mmu_op(self, cpu, cpu.get("ecx") + 0xC0000000) if name == "MMU_OP" else 0)
        cpu.skip(3)
        return True
