"""KVM of 2010 below a guest: the guest has a CPU of its own, and asks by ``vmcall``.

Sources: arch/x86/include/asm/kvm_para.h, arch/x86/kvm/mmu.c (kvm_pv_mmu_op) of 2.6.33.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pvops.emulate.abi.kvm import CALLS, FEATURES, NAMES, SIGNATURE, SIZES, WRITE_PTE
from pvops.emulate.hosts.host import HostModel

if TYPE_CHECKING:
    from pvops.emulate.cpu import Cpu

#: As much as the host takes at once; the guest asks again for the rest.
_TAKEN = 512
ENOSYS = -1000


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
        cpu.set("eax", self._mmu_op(cpu) if name == "MMU_OP" else 0)
        cpu.skip(3)
        return True

    def _mmu_op(self, cpu: Cpu) -> int:
        """kvm_pv_mmu_op(): carries out the requests that fit; how many bytes that was."""
        length, at = min(cpu.get("ebx"), _TAKEN), cpu.get("ecx")
        buffer = cpu.read(at + 0xC0000000, length)
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
