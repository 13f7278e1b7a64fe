"""KVM below the guest of x86-64: page table writes of 2.6.33 in a buffer, kicks of 3.12.

Sources: arch/x86/include/asm/kvm_para.h, arch/x86/kvm/mmu.c (``kvm_pv_mmu_op()``) of 2.6.33, arch/x86/kvm/x86.c
(``kvm_emulate_hypercall()``) of 3.12.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pvops.emulate.abi.kvm import CALLS, FEATURES, KICK_CPU, MMU_OP, NAMES, SIGNATURE, SIZES, WRITE_PTE
from pvops.emulate.hosts.wide.host import WideHost
from pvops.emulate.paging import START_KERNEL

if TYPE_CHECKING:
    from pvops.emulate.cpu import Cpu

#: As much as the host takes at once; the guest asks again for the rest.
_TAKEN = 512
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
        cpu.set("rax", self._mmu_op(cpu) if call == MMU_OP else 0)
        cpu.skip(3)
        return True

    def _mmu_op(self, cpu: Cpu) -> int:
        """kvm_pv_mmu_op(): carries out the requests that fit; how many bytes that was."""
        length, at = min(cpu.get("ebx"), _TAKEN), cpu.get("rcx")
        buffer = cpu.read(at + START_KERNEL, length)
        done = 0
        self.batches += 1
        while done + 8 <= length:
            op = int.from_bytes(buffer[done : done + 4], "little")
            if op not in SIZES:
                cpu.stop("hypercall", f"unknown request {op} in KVM's buffer")
                return done
            if done + SIZES[op] > length:
                break
            self.called(NAMES[op], queued=True)
            if op == WRITE_PTE:
                where, value = (int.from_bytes(buffer[done + i : done + i + 8], "little") for i in (8, 16))
                self.pages.set_entry(where, value)
            done += SIZES[op]
        if not done:
            cpu.stop("hypercall", f"KVM's buffer of {length} bytes holds no whole request")
        return done
