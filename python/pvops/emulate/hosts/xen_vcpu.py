"""What Xen keeps of a PV guest's virtual CPU, of either width: its control registers, tables and event mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pvops.emulate.abi.xen import (
    ARCH_CR2,
    CPUID_PREFIX,
    ENOSYS,
    MASK,
    REGISTER_VCPU_INFO,
    TSC_MUL,
    TSC_SHIFT,
    WC_SEC,
)
from pvops.emulate.hosts.host import BOOT_TIME, TS, Gate, HostModel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.emulate.cpu import Cpu
    from pvops.emulate.emulator import Uc
    from pvops.emulate.hosts.guest import Guest


class XenVcpu(HostModel):
    """A virtual CPU that Xen has, and the hypercalls that say the same in both widths."""

    name = "xen"
    entry = "xen_start_kernel"
    #: The registers of a hypercall's arguments, and that of its result.
    arguments: Sequence[str]
    result: str
    #: Where ``rdmsr`` leaves a value.
    msr: tuple[str, str]

    def __init__(self, image: Guest) -> None:
        super().__init__(image)
        self._cr0 = 0x8005003B & ~TS
        self._cr3 = self._stack = 0
        self._debug = [0] * 8
        self._gdt_at = (0, 0)
        self._gates: dict[int, Gate] = {}

    def attach(self, cpu: Cpu) -> None:
        super().attach(cpu)
        page = self.image.address("hypercall_page")
        for number in range(64):
            cpu.write(page + 32 * number, self.stub(number))
        self._shared = self.image.address("xen_shared_info")
        cpu.write(self._shared + MASK, b"\1")
        cpu.set_word(self._shared + TSC_MUL, 0x80000000)
        cpu.write(self._shared + TSC_SHIFT, b"\1")
        cpu.set_word(self._shared + WC_SEC, BOOT_TIME)
        self._watch_tables(cpu)

    def stub(self, number: int) -> bytes:
        """What Xen writes into the guest's page of hypercalls for this one."""
        raise NotImplementedError

    def _watch_tables(self, cpu: Cpu) -> None:
        """Page tables are read-only for the guest: its stores there trap, and Xen carries them out (ptwr)."""
        from pvops.emulate.emulator import unicorn

        library, _, _ = unicorn(cpu.width)
        address, raw = self.image.built.sections[".data.pages"]

        def stored(uc: Uc, access: int, at: int, size: int, value: int, data: object) -> None:
            self.called("(page table write)")

        cpu.uc.hook_add(library.UC_HOOK_MEM_WRITE, stored, begin=address, end=address + len(raw) - 1)

    def undefined(self, cpu: Cpu, code: bytes) -> bool:
        if code[:7] != CPUID_PREFIX:
            return False
        self.called("(emulated cpuid)")
        self.cpuid(cpu)
        cpu.skip(7)
        return True

    def hypercall(self, cpu: Cpu, number: int) -> bool:
        """A call by its number; one that Xen has not ends the run."""
        name = self.calls.get(number)
        if name is None:
            cpu.stop("hypercall", f"unknown hypercall {number}: Xen returns -ENOSYS, which these guests do not read")
            return True
        self.called(name)
        if name == "iret":
            self.iret(cpu)
        else:
            cpu.set(self.result, self.carry_out(cpu, name, [cpu.get(register) for register in self.arguments]))
        return True

    def iret(self, cpu: Cpu) -> None:
        """Back from an exception or a system call, by what is on the stack."""
        raise NotImplementedError

    def carry_out(self, cpu: Cpu, name: str, words: list[int]) -> int:
        """A call other than ``iret``; its result."""
        raise NotImplementedError

    def emulated(self, cpu: Cpu, code: bytes) -> bool:
        """Of emulate_privileged_op() what both widths have: ``wbinvd``, MSRs, and the guest's own fixups."""
        if code[:2] == b"\x0f\x09":
            self.called("(emulated wbinvd)")
            cpu.skip(2)
        elif code[:2] in (b"\x0f\x30", b"\x0f\x32"):
            self.called("(emulated msr)")
            if code[1] == 0x32:
                for register in self.msr:
                    cpu.set(register, 0)
            cpu.skip(2)
        elif (fixup := self.image.fixup(cpu.get("pc"))) is not None:
            self.called("(#GP to the guest)")
            cpu.set("pc", fixup)
        else:
            return False
        return True

    # Calls

    def _map(self, cpu: Cpu, address: int, value: int) -> int:
        """update_va_mapping: the entry of a page table by the address that it maps."""
        at = self.pages.place(self._cr3, address)
        if at is None:
            cpu.stop("hypercall", f"update_va_mapping of {address:#x}, which has no page table")
            return -22
        self.pages.set_entry(at, value)
        return 0

    def _nothing(self, cpu: Cpu, words: list[int]) -> int:
        """A call without effect on the state here."""
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
        cpu.write(self._shared + ARCH_CR2, address.to_bytes(cpu.width // 8, "little"))

    def esp0(self, cpu: Cpu) -> int:
        return self._stack

    def gdt(self, cpu: Cpu) -> Mapping[int, bytes]:
        at, count = self._gdt_at
        raw = cpu.read(at, 8 * count) if count else b""
        return {n: raw[8 * n : 8 * n + 8] for n in range(count)}

    def gates(self, cpu: Cpu) -> Mapping[int, Gate]:
        return self._gates
