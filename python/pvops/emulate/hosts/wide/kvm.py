"""KVM below the guest of x86-64: page table writes of 2.6.33 in a buffer, kicks of 3.12.

Sources: arch/x86/include/asm/kvm_para.h, arch/x86/kvm/mmu.c (``kvm_pv_mmu_op()``) of 2.6.33, arch/x86/kvm/x86.c
(``kvm_emulate_hypercall()``) of 3.12.
"""

from __future__ import annotations

from collections.abc import Mapping

from pvops.emulate.abi.kvm import CALLS, FEATURES, KICK_CPU, MMU_OP, SIGNATURE
from pvops.emulate.hosts.kvm_mmu import mmu_op
from pvops.emulate.hosts.wide.host import WideHost
from pvops.emulate.paging import START_KERNEL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.emulate.cpu import Cpu

#: Of 3.12: KVM_FEATURE_NOP_IO_DELAY, KVM_FEATURE_PV_UNHALT.
_UNHALT = 1 << 1 | 1 << 7


class WideKvm(WideHost):
    """The guest's kernel runs in ring 0 of its own; its CPU's state is its own."""

    name = "kvm"
    entry = "kvm_entry"
    calls: Mapping[int, str] = {**CALLS, KICK_CPU: "KICK_CPU"}

    def cpuid_leaf(self, leaf: int) -> tuple[int, int, int, int]:
        if leaf == 0x40000000:
            return (0x40000001, *SIGNATURE)
        features = FEATURES if self.image.era == "2.6.33" else _UNHALT
        return (features, 0, 0, 0) if leaf == 0x40000001 else super().cpuid_leaf(leaf)

    def undefined(self, cpu: Cpu, code: bytes) -> bool:
        if code[:3] not in (b"\x0f\x01\xc1", b"\x0f\x01\xd9"):
            return False
        call = cpu.get("eax")
        known = (MMU_OP,) if self.image.era == "2.6.33" else (KICK_CPU,)
        if call not in known:
            cpu.stop("hypercall", f"unknown hypercall {call}: KVM returns -KVM_ENOSYS, which these guests do not read")
            return True
        self.called(self.calls[call])
        cpu.set("rax", mmu_op(self, cpu, cpu.get("rcx") + START_KERNEL) if call == MMU_OP else 0)
        cpu.skip(3)
        return True
