"""Xen 3.x below a PV guest: hypercalls by number through ``int $0x82``, a page shared with the guest, multicalls.

Sources: xen/include/public/{xen,sched,vcpu,physdev}.h and arch/x86/traps.c of Xen 3.1.
"""

from __future__ import annotations

from collections.abc import Callable

from pvops.emulate.abi.xen import (
    ARCH_CR2,
    BATCH,
    CALLS,
    ENOSYS,
    MMUEXT,
    TRAP,
)
from pvops.emulate.hosts.host import IF, TS, Gate
from pvops.emulate.hosts.xen_vcpu import XenVcpu
from pvops.emulate.paging import PAGE_OFFSET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.emulate.cpu import Cpu


class Xen(XenVcpu):
    """The guest's kernel runs in ring 1; page tables are its own, but Xen writes them."""

    ring = 1
    calls = CALLS
    arguments = ("ebx", "ecx", "edx", "esi", "edi")
    result = "eax"
    msr = ("eax", "edx")

    def stub(self, number: int) -> bytes:
        # mov $number, %eax; int $0x82; ret. iret's saves eax, which is the guest's.
        code = b"\xb8" + number.to_bytes(4, "little") + bytes([0xCD, TRAP, 0xC3])
        return (b"\x50" if number == 23 else b"") + code

    # Traps

    def interrupt(self, cpu: Cpu, number: int) -> bool:
        return number == TRAP and self.hypercall(cpu, cpu.get("eax"))

    def carry_out(self, cpu: Cpu, name: str, words: list[int]) -> int:
        return _HANDLERS[name](self, cpu, words)

    def privileged(self, cpu: Cpu, code: bytes) -> bool:
        """emulate_privileged_op(): what a kernel in ring 1 may still write as if it were in ring 0."""
        if code[:2] == b"\x0f\x06":
            self.called("(emulated clts)")
            self._cr0 &= ~TS
            cpu.skip(2)
        elif code[0] == 0x0F and code[1] in (0x20, 0x22):
            self.called("(emulated mov cr)")
            self._move(cpu, code)
            cpu.skip(3)
        else:
            return self.emulated(cpu, code)
        return True

    def _move(self, cpu: Cpu, code: bytes) -> None:
        register = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")[code[2] & 7]
        number = code[2] >> 3 & 7
        if code[1] == 0x20:
            values = {0: self._cr0, 2: cpu.word(self._shared + ARCH_CR2), 3: self._cr3}
            cpu.set(register, values.get(number, 0))
        elif number == 0:
            wanted = cpu.get(register)
            if (wanted ^ self._cr0) & ~TS & 0x80050001:
                cpu.stop("trap", f"CR0 = {wanted:#x}: Xen does not let a guest change more of it than TS")
            self._cr0 = wanted
        elif number == 3:
            self._cr3 = cpu.get(register)

    # Calls

    def iret(self, cpu: Cpu) -> None:
        """Back from an exception: eax, eip, cs, eflags; the interrupt flag goes into the event mask."""
        eax, eip, _, flags = (cpu.pop() for _ in range(4))
        cpu.set("eax", eax)
        cpu.set("eflags", flags | IF)
        cpu.set("eip", eip)
        self.set_interrupts(cpu, bool(flags & IF))

    def _multicall(self, cpu: Cpu, words: list[int]) -> int:
        at, count = words[:2]
        if count > 4 * BATCH:
            cpu.stop("hypercall", f"a multicall of {count} calls")
            return ENOSYS
        self.batches += 1
        for i in range(count):
            entry = at + 32 * i
            name = CALLS.get(cpu.word(entry))
            if name is None or name in ("multicall", "iret"):
                cpu.stop("hypercall", f"unknown hypercall {cpu.word(entry)} in a multicall")
                return ENOSYS
            self.called(name, queued=True)
            cpu.set_word(entry + 4, self.carry_out(cpu, name, [cpu.word(entry + 8 + 4 * k) for k in range(6)]))
        return 0

    def _set_trap_table(self, cpu: Cpu, words: list[int]) -> int:
        for i in range(257):
            raw = cpu.read(words[0] + 8 * i, 8)
            address = int.from_bytes(raw[4:], "little")
            if not address:
                break
            self._gates[raw[0]] = Gate(address, bool(raw[1] & 4), raw[1] & 3)
        return 0

    def _mmu_update(self, cpu: Cpu, words: list[int]) -> int:
        for i in range(min(words[1], BATCH)):
            raw = cpu.read(words[0] + 16 * i, 16)
            self.pages.set_entry(
                int.from_bytes(raw[:8], "little") & ~3, int.from_bytes(raw[8 : 8 + self.pages.size], "little")
            )
        return 0

    def _update_va_mapping(self, cpu: Cpu, words: list[int]) -> int:
        return self._map(cpu, words[0], words[1] | (words[2] << 32 if self.pages.pae else 0))

    def _set_gdt(self, cpu: Cpu, words: list[int]) -> int:
        self._gdt_at = ((cpu.word(words[0]) << 12) + PAGE_OFFSET, words[1])
        return 0

    def _update_descriptor(self, cpu: Cpu, words: list[int]) -> int:
        cpu.set_word(words[0] + PAGE_OFFSET, words[2])
        cpu.set_word(words[0] + PAGE_OFFSET + 4, words[3])
        return 0

    def _mmuext_op(self, cpu: Cpu, words: list[int]) -> int:
        for i in range(min(words[1], BATCH)):
            command, argument = cpu.word(words[0] + 12 * i), cpu.word(words[0] + 12 * i + 4)
            if command not in MMUEXT:
                cpu.stop("hypercall", f"unknown mmuext_op {command}")
                return ENOSYS
            if MMUEXT[command] == "NEW_BASEPTR":
                self._cr3 = argument << 12
        return 0


#: What carries out each call.
_HANDLERS: dict[str, Callable[[Xen, Cpu, list[int]], int]] = {
    "set_trap_table": Xen._set_trap_table,
    "mmu_update": Xen._mmu_update,
    "set_gdt": Xen._set_gdt,
    "stack_switch": Xen._stack_switch,
    "set_callbacks": Xen._nothing,
    "fpu_taskswitch": Xen._fpu_taskswitch,
    "set_debugreg": Xen._set_debugreg,
    "get_debugreg": Xen._get_debugreg,
    "update_descriptor": Xen._update_descriptor,
    "multicall": Xen._multicall,
    "update_va_mapping": Xen._update_va_mapping,
    "xen_version": Xen._nothing,
    "vm_assist": Xen._nothing,
    "vcpu_op": Xen._vcpu_op,
    "mmuext_op": Xen._mmuext_op,
    "sched_op": Xen._sched_op,
    "physdev_op": Xen._nothing,
}
