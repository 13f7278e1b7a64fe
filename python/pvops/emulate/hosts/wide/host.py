"""Bare hardware below the guest of x86-64: its state is the CPU's own, and MSRs say where system calls enter."""

from __future__ import annotations

from collections.abc import Mapping

from pvops.emulate.cpu64 import CSTAR, LSTAR, SFMASK, SYSENTER_EIP, SYSENTER_ESP, USER32_CS, Cpu64
from pvops.emulate.hosts.host import IF, Gate, HostModel
from pvops.emulate.paging import START_KERNEL, PageTables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.emulate.cpu import Cpu, Limits


class WideHost(HostModel):
    """The guest's kernel runs in ring 0 and does everything itself."""

    name = "native"
    offset = START_KERNEL

    def cpu(self, limits: Limits | None) -> Cpu64:
        return Cpu64(self, ring=self.ring, limits=limits)

    def attach(self, cpu: Cpu) -> None:
        self.pages = PageTables(cpu, False, wide=True)

    def system_call(self, cpu: Cpu64, kind: str) -> bool:
        """``syscall`` and ``sysenter`` of user space, as the MSRs say."""
        if not cpu.in_user:
            return False
        narrow = cpu.get("cs") == USER32_CS
        back, flags = cpu.get("pc"), cpu.get("flags")
        cpu.enter_kernel()
        if kind == "sysenter":
            cpu.set("sp", cpu.uc.msr_read(SYSENTER_ESP))
            cpu.set("flags", flags & ~IF)
            cpu.set("pc", cpu.uc.msr_read(SYSENTER_EIP))
        else:
            cpu.set("rcx", back)
            cpu.set("r11", flags)
            cpu.set("flags", flags & ~cpu.uc.msr_read(SFMASK))
            cpu.set("pc", cpu.uc.msr_read(CSTAR if narrow else LSTAR))
        return True

    def raise_in(self, cpu: Cpu, handler: Gate, error: int) -> None:
        """Delivers an exception with an error code, from user space on the stack that the task state has."""
        assert isinstance(cpu, Cpu64)
        words = [cpu.get("ss"), cpu.get("sp"), cpu.get("flags"), cpu.get("cs"), cpu.get("pc"), error]
        stack = cpu.get("sp")
        if cpu.in_user:
            address = cpu.get("cr2")
            cpu.enter_kernel()
            cpu.set("cr2", address)
            stack = self.esp0(cpu)
        cpu.set("sp", stack & ~15)
        for word in words:
            cpu.push(word)
        cpu.set("pc", handler.address)
        if handler.disables:
            self.set_interrupts(cpu, False)

    def esp0(self, cpu: Cpu) -> int:
        return cpu.pointer(self.image.address("init_tss") + 4)

    def gates(self, cpu: Cpu) -> Mapping[int, Gate]:
        base, limit = cpu.table("idtr")
        if limit < 15:
            return {}
        raw = cpu.read(base, limit + 1)
        found = ((n, gate(raw[16 * n : 16 * n + 16])) for n in range(len(raw) // 16))
        return {vector: held for vector, held in found if held is not None}


def gate(raw: bytes) -> Gate | None:
    """The gate that 16 bytes of an IDT describe; None where it is not present."""
    first, high = int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:12], "little")
    if not first >> 47 & 1:
        return None
    address = first & 0xFFFF | (first >> 48) << 16 | high << 32
    return Gate(address, not first >> 40 & 1, first >> 45 & 3)
