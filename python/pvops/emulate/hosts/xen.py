"""Xen 3.x below a PV guest: hypercalls by number through ``int $0x82``, a page shared with the guest, multicalls.

Sources: xen/include/public/{xen,sched,vcpu,physdev}.h and arch/x86/traps.c of Xen 3.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from pvops.emulate.abi.xen import (
    ARCH_CR2,
    BATCH,
    CALLS,
    CPUID_PREFIX,
    ENOSYS,
    MASK,
    MMUEXT,
    REGISTER_VCPU_INFO,
    TRAP,
    TSC_MUL,
    TSC_SHIFT,
    WC_SEC,
)
from pvops.emulate.hosts.host import BOOT_TIME, IF, TS, Gate, HostModel
from pvops.emulate.paging import PAGE_OFFSET

if TYPE_CHECKING:
    from pvops.emulate.cpu import Cpu
    from pvops.emulate.emulator import Uc
    from pvops.emulate.hosts.guest import Guest


class Xen(HostModel):
    """The guest's kernel runs in ring 1; page tables are its own, but Xen writes them."""

    name = "xen"
    ring = 1
    entry = "xen_start_kernel"
    calls = CALLS

    def __init__(self, image: Guest) -> None:
        super().__init__(image)
        self._cr0 = 0x8005003B & ~TS
        self._cr3 = 0
        self._stack = 0
        self._debug = [0] * 8
        self._gdt_at = (0, 0)
        self._gates: dict[int, Gate] = {}

    def attach(self, cpu: Cpu) -> None:
        super().attach(cpu)
        page = self.image.address("hypercall_page")
        for number in range(64):
            # mov $number, %eax; int $0x82; ret. iret's saves eax, which is the guest's.
            code = b"\xb8" + number.to_bytes(4, "little") + bytes([0xCD, TRAP, 0xC3])
            cpu.write(page + 32 * number, (b"\x50" if number == 23 else b"") + code)
        self._shared = self.image.address("xen_shared_info")
        cpu.write(self._shared + MASK, b"\1")
        cpu.set_word(self._shared + TSC_MUL, 0x80000000)
        cpu.write(self._shared + TSC_SHIFT, b"\1")
        cpu.set_word(self._shared + WC_SEC, BOOT_TIME)
        self._watch_tables(cpu)

    def _watch_tables(self, cpu: Cpu) -> None:
        """Page tables are read-only for the guest: its stores there trap, and Xen carries them out (ptwr)."""
        from pvops.emulate.emulator import unicorn

        library, _, _ = unicorn()
        address, raw = self.image.built.sections[".data.pages"]

        def stored(uc: Uc, access: int, at: int, size: int, value: int, data: object) -> None:
            self.called("(page table write)")

        cpu.uc.hook_add(library.UC_HOOK_MEM_WRITE, stored, begin=address, end=address + len(raw) - 1)

    # Traps

    def interrupt(self, cpu: Cpu, number: int) -> bool:
        if number != TRAP:
            return False
        call = cpu.get("eax")
        name = CALLS.get(call)
        if name is None:
            cpu.stop("hypercall", f"unknown hypercall {call}: Xen returns -ENOSYS, which these guests do not read")
            return True
        self.called(name)
        if name == "iret":
            self._iret(cpu)
        else:
            words = [cpu.get(register) for register in ("ebx", "ecx", "edx", "esi", "edi")]
            cpu.set("eax", self._do(cpu, name, words))
        return True

    def _do(self, cpu: Cpu, name: str, words: list[int]) -> int:
        return _HANDLERS[name](self, cpu, words)

    def undefined(self, cpu: Cpu, code: bytes) -> bool:
        if code[:7] != CPUID_PREFIX:
            return False
        self.called("(emulated cpuid)")
        self.cpuid(cpu)
        cpu.skip(7)
        return True

    def privileged(self, cpu: Cpu, code: bytes) -> bool:
        """emulate_privileged_op(): what a kernel in ring 1 may still write as if it were in ring 0."""
        if code[0] == 0x0F and code[1] in (0x06, 0x09):  # clts, wbinvd
            self.called("(emulated clts)" if code[1] == 0x06 else "(emulated wbinvd)")
            self._cr0 &= ~TS if code[1] == 0x06 else -1
            cpu.skip(2)
        elif code[0] == 0x0F and code[1] in (0x20, 0x22):
            self.called("(emulated mov cr)")
            self._move(cpu, code)
            cpu.skip(3)
        elif code[0] == 0x0F and code[1] in (0x30, 0x32):
            self.called("(emulated msr)")
            if code[1] == 0x32:
                cpu.set("eax", 0)
                cpu.set("edx", 0)
            cpu.skip(2)
        elif (fixup := self.image.fixup(cpu.get("eip"))) is not None:
            self.called("(#GP to the guest)")
            cpu.set("eip", fixup)
        else:
            return False
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

    def _iret(self, cpu: Cpu) -> None:
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
            cpu.set_word(entry + 4, self._do(cpu, name, [cpu.word(entry + 8 + 4 * k) for k in range(6)]))
        return 0

    def _nothing(self, cpu: Cpu, words: list[int]) -> int:
        """A call without effect on the state here."""
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
        value = words[1] | (words[2] << 32 if self.pages.pae else 0)
        at = self.pages.place(self._cr3, words[0])
        if at is None:
            cpu.stop("hypercall", f"update_va_mapping of {words[0]:#x}, which has no page table")
            return -22
        self.pages.set_entry(at, value)
        return 0

    def _set_gdt(self, cpu: Cpu, words: list[int]) -> int:
        self._gdt_at = ((cpu.word(words[0]) << 12) + PAGE_OFFSET, words[1])
        return 0

    def _stack_switch(self, cpu: Cpu, words: list[int]) -> int:
        self._stack = words[1]
        return 0

    def _fpu_taskswitch(self, cpu: Cpu, words: list[int]) -> int:
        self._cr0 = self._cr0 & ~TS | (TS if words[0] else 0)
        return 0

    def _set_debugreg(self, cpu: Cpu, words: list[int]) -> int:
        self._debug[words[0] & 7] = words[1]
        return 0

    def _get_debugreg(self, cpu: Cpu, words: list[int]) -> int:
        return self._debug[words[0] & 7]

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

    def _vcpu_op(self, cpu: Cpu, words: list[int]) -> int:
        """VCPUOP_register_vcpu_info, accepted for the place where vcpu_info is; the others do nothing."""
        return 0 if words[0] != REGISTER_VCPU_INFO or words[2] == self._shared else ENOSYS

    def _sched_op(self, cpu: Cpu, words: list[int]) -> int:
        """SCHEDOP_block: events on, and sleep until the next, the timer's."""
        if words[0] == 1:
            self.halts += 1
            self.set_interrupts(cpu, True)
        return 0

    # State

    def interrupts(self, cpu: Cpu) -> bool:
        return not cpu.read(self._shared + MASK, 1)[0]

    def set_interrupts(self, cpu: Cpu, on: bool) -> None:
        cpu.write(self._shared + MASK, b"\0" if on else b"\1")

    def ts(self, cpu: Cpu) -> bool:
        return bool(self._cr0 & TS)

    def cr3(self, cpu: Cpu) -> int:
        return self._cr3

    def set_cr2(self, cpu: Cpu, address: int) -> None:
        cpu.set_word(self._shared + ARCH_CR2, address)

    def esp0(self, cpu: Cpu) -> int:
        return self._stack

    def gdt(self, cpu: Cpu) -> Mapping[int, bytes]:
        at, count = self._gdt_at
        raw = cpu.read(at, 8 * count) if count else b""
        return {i: raw[8 * i : 8 * i + 8] for i in range(count)}

    def gates(self, cpu: Cpu) -> Mapping[int, Gate]:
        return self._gates


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
