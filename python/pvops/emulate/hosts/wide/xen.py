"""Xen below a PV guest of x86-64: its kernel shares ring 3 with user space, and ``syscall`` always comes to Xen.

Sources: xen/include/public/{xen,callback,sched,vcpu,physdev}.h, arch-x86/xen-x86_64.h, and arch/x86/x86_64/{traps.c,
entry.S} of Xen 3.1 (``do_iret()``, ``create_bounce_frame``, ``toggle_guest_mode()``).
"""

from __future__ import annotations

from collections.abc import Callable

from pvops.emulate.abi.xen import (
    BATCH,
    CALLBACK_SYSCALL,
    CALLBACK_SYSCALL32,
    CALLBACK_SYSENTER,
    CALLS_64,
    ENOSYS,
    EVTCHN_SEND,
    MMUEXT_64,
    SEGBASE_GS_USER,
    SEGBASE_GS_USER_SEL,
    VGCF_IN_SYSCALL,
)
from pvops.emulate.cpu64 import USER32_CS, USER_DS, Cpu64
from pvops.emulate.hosts.host import IF, Gate
from pvops.emulate.hosts.wide.host import WideHost
from pvops.emulate.hosts.xen_vcpu import XenVcpu

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.emulate.cpu import Cpu
    from pvops.emulate.hosts.guest import Guest

#: The hypercall ``iret``: it comes with the registers that it changes on the stack, and does not come back.
_IRET = 23
_REGISTERS = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi")
_KINDS = {CALLBACK_SYSCALL: "syscall", CALLBACK_SYSCALL32: "syscall32", CALLBACK_SYSENTER: "sysenter"}


class WideXen(XenVcpu, WideHost):
    """Page tables are the guest's, but Xen writes them; which of kernel and user space runs is Xen's to know."""

    ring = 3
    calls = CALLS_64
    arguments = ("rdi", "rsi", "rdx", "r10", "r8")
    result = "rax"
    msr = ("rax", "rdx")

    def __init__(self, image: Guest) -> None:
        super().__init__(image)
        self._cr4 = self._user_gs = 0
        self._callbacks: dict[str, int] = {}
        self._in_user = False

    def stub(self, number: int) -> bytes:
        # push %rcx; push %r11; mov $number, %eax; syscall; pop %r11; pop %rcx; ret
        call = b"\xb8" + number.to_bytes(4, "little") + b"\x0f\x05"
        return b"\x51\x41\x53\x50" + call if number == _IRET else b"\x51\x41\x53" + call + b"\x41\x5b\x59\xc3"

    # Traps

    def system_call(self, cpu: Cpu64, kind: str) -> bool:
        """A hypercall of the kernel's; of user space a system call, which goes to the kernel's callback."""
        if self._in_user:
            return self._bounce(cpu, "syscall32" if (kind, cpu.get("cs")) == ("syscall", USER32_CS) else kind)
        return kind == "syscall" and self.hypercall(cpu, cpu.get("eax"))

    def carry_out(self, cpu: Cpu, name: str, words: list[int]) -> int:
        assert isinstance(cpu, Cpu64)
        return _HANDLERS[name](self, cpu, words)

    def _bounce(self, cpu: Cpu64, kind: str) -> bool:
        """create_bounce_frame(): to the kernel's callback, with rcx and r11 on its stack and events masked."""
        target = self._callbacks.get(kind)
        if target is None:
            return False
        self.called(f"(system call by {kind})")
        back, flags = cpu.get("pc"), cpu.get("flags")
        if kind != "sysenter":
            cpu.set("rcx", back)
            cpu.set("r11", flags)
        self._deliver(cpu, target, (), disables=True)
        return True

    def _deliver(self, cpu: Cpu64, target: int, code: tuple[int, ...], *, disables: bool) -> None:
        """The frame of an exception or a system call, and the kernel goes on at its handler."""
        flags = cpu.get("flags") & ~IF | (IF if self.interrupts(cpu) or self._in_user else 0)
        # A selector of ring 0 says that the kernel was interrupted.
        selector = cpu.get("cs") if self._in_user else cpu.get("cs") & ~3
        words = (USER_DS, cpu.get("sp"), flags, selector, cpu.get("pc"), *code, cpu.get("r11"), cpu.get("rcx"))
        stack = cpu.get("sp")
        if self._in_user:
            cpu.enter_kernel()
            self._in_user = False
            stack = self._stack
        cpu.set("sp", stack & ~15)
        for word in words:
            cpu.push(word)
        if disables:
            self.set_interrupts(cpu, False)
        cpu.set("pc", target)

    def raise_in(self, cpu: Cpu, handler: Gate, error: int) -> None:
        assert isinstance(cpu, Cpu64)
        self._deliver(cpu, handler.address, (error,), disables=handler.disables)

    def iret(self, cpu: Cpu) -> None:
        """do_iret(): rax, r11, rcx, flags, rip, cs, rflags, rsp, ss; to user space if the selector is of ring 3."""
        assert isinstance(cpu, Cpu64)
        rax, r11, rcx, how, pc, code, flags, stack, _ = (cpu.pop() for _ in range(9))
        if code & 3 == 3:
            cpu.keep()
            self._in_user = True
            if code == USER32_CS:
                cpu.enter_compatible()
            cpu.set("gs_base", self._user_gs)
        cpu.set("rax", rax)
        if not how & VGCF_IN_SYSCALL:
            cpu.set("r11", r11)
            cpu.set("rcx", rcx)
        cpu.set("flags", flags | IF)
        cpu.set("sp", stack)
        cpu.set("pc", pc)
        self.set_interrupts(cpu, bool(flags & IF))

    def privileged(self, cpu: Cpu, code: bytes) -> bool:
        """emulate_privileged_op(): what a kernel in ring 3 may still do as if it were in ring 0."""
        if self._in_user:
            return False
        if code[0] == 0x0F and code[1] in (0x20, 0x22) and code[2] >> 3 & 7 == 4:
            self.called("(emulated mov cr)")
            register = _REGISTERS[code[2] & 7]
            if code[1] == 0x20:
                cpu.set(register, self._cr4)
            else:
                self._cr4 = cpu.get(register)
            cpu.skip(3)
            return True
        return self.emulated(cpu, code)

    # Calls

    def _multicall(self, cpu: Cpu64, words: list[int]) -> int:
        at, count = words[0], words[1] & 0xFFFFFFFF
        if count > 4 * BATCH:
            cpu.stop("hypercall", f"a multicall of {count} calls")
            return ENOSYS
        self.batches += 1
        for n in range(count):
            entry = at + 64 * n
            name = CALLS_64.get(cpu.pointer(entry))
            if name is None or name in ("multicall", "iret"):
                cpu.stop("hypercall", f"unknown hypercall {cpu.pointer(entry)} in a multicall")
                return ENOSYS
            self.called(name, queued=True)
            result = self.carry_out(cpu, name, [cpu.pointer(entry + 16 + 8 * k) for k in range(5)])
            cpu.write(entry + 8, (result & (1 << 64) - 1).to_bytes(8, "little"))
        return 0

    def _callback_op(self, cpu: Cpu64, words: list[int]) -> int:
        """CALLBACKOP_register: where a kind of event enters the kernel."""
        kind = _KINDS.get(cpu.word(words[1]) & 0xFFFF)
        if words[0] or kind is None:
            return ENOSYS
        self._callbacks[kind] = cpu.pointer(words[1] + 8)
        return 0

    def _set_segment_base(self, cpu: Cpu64, words: list[int]) -> int:
        """Of user space's gs: its base, or a selector, which as a null one makes the base zero."""
        if words[0] == SEGBASE_GS_USER:
            self._user_gs = words[1]
        elif words[0] == SEGBASE_GS_USER_SEL and not words[1]:
            self._user_gs = 0
        else:
            return ENOSYS
        return 0

    def _set_trap_table(self, cpu: Cpu64, words: list[int]) -> int:
        for n in range(257):
            raw = cpu.read(words[0] + 16 * n, 16)
            address = int.from_bytes(raw[8:], "little")
            if not address:
                break
            self._gates[raw[0]] = Gate(address, bool(raw[1] & 4), raw[1] & 3)
        return 0

    def _mmu_update(self, cpu: Cpu64, words: list[int]) -> int:
        for n in range(min(words[1], BATCH)):
            at = words[0] + 16 * n
            self.pages.set_entry(cpu.pointer(at) & ~3, cpu.pointer(at + 8))
        return 0

    def _update_va_mapping(self, cpu: Cpu64, words: list[int]) -> int:
        return self._map(cpu, words[0], words[1])

    def _set_gdt(self, cpu: Cpu64, words: list[int]) -> int:
        self._gdt_at = ((cpu.pointer(words[0]) << 12) + self.offset, min(words[1] & 0xFFFF, 512))
        return 0

    def _update_descriptor(self, cpu: Cpu64, words: list[int]) -> int:
        cpu.write(words[0] + self.offset, words[1].to_bytes(8, "little"))
        return 0

    def _mmuext_op(self, cpu: Cpu64, words: list[int]) -> int:
        for n in range(min(words[1], BATCH)):
            at = words[0] + 24 * n
            command = cpu.word(at)
            if command not in MMUEXT_64:
                cpu.stop("hypercall", f"unknown mmuext_op {command}")
                return ENOSYS
            if MMUEXT_64[command] == "NEW_BASEPTR":
                self._cr3 = cpu.pointer(at + 8) << 12
        return 0

    def _event_channel_op(self, cpu: Cpu64, words: list[int]) -> int:
        """EVTCHNOP_send to a CPU, which is not started: the event stays pending, and nothing comes of it."""
        return 0 if words[0] == EVTCHN_SEND and cpu.word(words[1]) in (1, 2) else ENOSYS


#: What carries out each call.
_HANDLERS: dict[str, Callable[[WideXen, Cpu64, list[int]], int]] = {
    "set_trap_table": WideXen._set_trap_table,
    "mmu_update": WideXen._mmu_update,
    "set_gdt": WideXen._set_gdt,
    "stack_switch": WideXen._stack_switch,
    "set_callbacks": WideXen._nothing,
    "fpu_taskswitch": WideXen._fpu_taskswitch,
    "set_debugreg": WideXen._set_debugreg,
    "get_debugreg": WideXen._get_debugreg,
    "update_descriptor": WideXen._update_descriptor,
    "multicall": WideXen._multicall,
    "update_va_mapping": WideXen._update_va_mapping,
    "xen_version": WideXen._nothing,
    "vm_assist": WideXen._nothing,
    "vcpu_op": WideXen._vcpu_op,
    "set_segment_base": WideXen._set_segment_base,
    "mmuext_op": WideXen._mmuext_op,
    "sched_op": WideXen._sched_op,
    "callback_op": WideXen._callback_op,
    "event_channel_op": WideXen._event_channel_op,
    "physdev_op": WideXen._nothing,
}
