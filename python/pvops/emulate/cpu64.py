"""The emulated CPU with 64 bits: rings, system calls of 64- and 32-bit user space, and returns from them.

What leaves the kernel (``sysretq``, ``sysretl``, ``sysexit``, ``iretq``) the emulator executes, into compatibility mode
too. What enters it from user space it does not: such a trap stops the CPU, which goes on with the state that it had
when it left, and the registers of user space.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Protocol

from pvops.emulate.cpu import EXIT, FIRMWARE, Cpu, Host
from pvops.emulate.segments import descriptor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.emulate.cpu import Limits
    from pvops.emulate.emulator import Uc

#: Selectors of Linux on x86-64 (arch/x86/include/asm/segment.h).
KERNEL_CS, KERNEL_DS, USER32_CS, USER_DS, USER_CS = 0x10, 0x18, 0x23, 0x2B, 0x33
#: MSRs of system calls, and where ``swapgs`` finds the other base.
EFER, STAR, LSTAR, CSTAR, SFMASK = 0xC0000080, 0xC0000081, 0xC0000082, 0xC0000083, 0xC0000084
SYSENTER_CS, SYSENTER_ESP, SYSENTER_EIP = 0x174, 0x175, 0x176
GS_BASE, KERNEL_GS_BASE = 0xC0000101, 0xC0000102
IF = 0x200
PAE = 0x20

_GENERAL = (
    *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"),
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"),
)


class Host64(Host, Protocol):
    """What is below the guest."""

    def system_call(self, cpu: Cpu64, kind: str) -> bool:
        """``syscall`` or ``sysenter``; the instruction pointer is behind it."""


class Cpu64(Cpu):
    """One emulated x86-64 CPU with flat memory; see `Cpu`. A kernel in ring 3 shares it with user space, below Xen."""

    width = 64
    own = (*_GENERAL, "rip", "rflags", "gs_base")

    def __init__(self, host: Host64, *, ring: int = 0, limits: Limits | None = None) -> None:
        super().__init__(host, ring=ring, limits=limits)
        self._below = host
        self._system: str | None = None
        self._returns: dict[int, int] = {}
        #: The kernel's state when it left for user space; of a kernel in ring 3, what 32-bit user space begins with.
        self._kernel: object = None
        self._compatible: object = None

    def enter(self, entry: int, stack: int) -> None:
        table = bytearray(0x38)
        for at, access, flags in (
            *((KERNEL_CS, 0x9B, 0xA), (KERNEL_DS, 0x93, 0xC)),
            *((USER32_CS & ~3, 0xFB, 0xC), (USER_DS & ~3, 0xF3, 0xC), (USER_CS & ~3, 0xFB, 0xA)),
        ):
            table[at : at + 8] = descriptor(0, 0xFFFFF, access, flags)
        gdt = FIRMWARE + 0x100
        self.write(gdt, bytes(table))
        self.uc.reg_write(self._x["gdtr"], (0, gdt, len(table) - 1, 0))
        load = b"\x66\xb8" + KERNEL_DS.to_bytes(2, "little") + bytes.fromhex("8ed0 8ed8 8ec0 48cf")
        self.write(FIRMWARE, load)  # mov %ax to ss, ds, es; iretq
        self.write(EXIT, b"\xf4")
        # As long mode has it; without it the emulator drops what is written to CR0.
        self.uc.reg_write(self._x["cr4"], self.get("cr4") | PAE)
        code, data = (USER_CS, USER_DS) if self.ring else (KERNEL_CS, KERNEL_DS)
        reset = self.uc.context_save()
        if self.ring:
            self._by_iret(USER32_CS, USER_DS, EXIT, stack)
            self._compatible = self.uc.context_save()
            self.uc.context_restore(reset)
        self._by_iret(code, data, entry, stack)
        self.uc.msr_write(EFER, self.uc.msr_read(EFER) | 1)
        self._before = self._kernel = self.uc.context_save()

    def _by_iret(self, code: int, data: int, entry: int, stack: int) -> None:
        frame = FIRMWARE + 0xF00
        self.set("sp", frame)
        words = (entry, code, 2, stack, data)
        self.write(frame, b"".join(word.to_bytes(8, "little") for word in words))
        self.uc.emu_start(FIRMWARE, entry)
        self.uc.ctl_remove_cache(entry, entry + 1)  # a block that ends where the emulator was told to stop

    @property
    def in_user(self) -> bool:
        """Whether its ring is not the kernel's."""
        return self.get("cs") & 3 != self.ring

    def watch_returns(self, addresses: Iterable[int]) -> None:
        """Keeps the state of the kernel in front of each instruction that may leave it, and no longer of others."""
        wanted = set(addresses)
        for address in [a for a in self._returns if a not in wanted]:
            self.uc.hook_del(self._returns.pop(address))
        for address in wanted - self._returns.keys():
            hook = self.uc.hook_add(self._u.UC_HOOK_CODE, self._on_return, begin=address, end=address)
            self._returns[address] = hook

    def keep(self) -> None:
        """The kernel leaves for user space by its host."""
        self._kernel = self.uc.context_save()

    def enter_kernel(self) -> None:
        """Goes on in the kernel, with all registers as they are now."""
        self._switch(self._kernel)

    def enter_compatible(self) -> None:
        """Goes on in 32-bit user space, from a kernel in ring 3."""
        self._switch(self._compatible)

    def _switch(self, context: object) -> None:
        general = self._own[:-1]
        values = self.uc.reg_read_batch(general)
        self.uc.context_restore(context)
        self.uc.reg_write_batch(list(zip(general, values, strict=True)))

    def _turn(self, begin: int, until: int) -> None:
        self._system = None
        super()._turn(begin, until)
        if self._system is not None and self.stopped is None:
            self._count()
            if not self._below.system_call(self, self._system):
                self.stop("trap", f"{self._system}: the host has no handler for it")

    def _hook(self) -> None:
        super()._hook()
        for kind in ("syscall", "sysenter"):
            self.uc.hook_add(self._u.UC_HOOK_INSN, partial(self._on_system_call, kind), None, 1, 0, self._x[kind])

    def _on_system_call(self, kind: str, uc: Uc, data: object) -> None:
        self._system = kind
        self.uc.emu_stop()

    def _on_return(self, uc: Uc, address: int, size: int, data: object) -> None:
        self._kernel = self.uc.context_save()
