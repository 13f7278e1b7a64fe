"""The emulated CPU: Unicorn with a guest in it, and hooks only where something traps.

Segments, privilege and traps are the CPU's own: a guest in ring 1 got there by ``iret`` through a real descriptor
table, and its ``cli`` raises a real #GP. Paging is not the CPU's (memory is flat, and the host walks the guest's tables
on a miss): so CR0.PG may be set, and a page fault is an access to memory that is not mapped.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from pvops.emulate.segments import KERNEL_DS, flat_gdt, selector
from pvops.emulate.state import PAGE, State
from pvops.errors import RunError
from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.emulate.emulator import Uc

#: Where the machine keeps what is its own: start-up code, descriptor table and a stack for getting into the guest.
FIRMWARE = 0x1000
#: Executing this address is how a guest says that it is done.
EXIT = FIRMWARE + 0x800

_TRAP_LIMIT = 1_000_000


class Stop(NamedTuple):
    """Why a run ended.

    Attributes:
        kind: ``done``, or one word for what went wrong: ``run-off``, ``into-site``, ``text-write``, ``memory``,
            ``hypercall``, ``trap``, ``ring``, ``instructions``, ``time``, ``bug``.
        address: of the instruction.
        why: in words.
    """

    kind: str
    address: int
    why: str


class Limits(NamedTuple):
    """What a run may take: instructions (held to when they are counted), seconds, and traps."""

    instructions: int = 5_000_000
    seconds: float = 10.0
    traps: int = _TRAP_LIMIT


class Host(Protocol):
    """What is below the guest: it is told of every trap, and says whether it took it."""

    def interrupt(self, cpu: Cpu, number: int) -> bool:
        """``int $number``; the instruction pointer is behind it."""

    def privileged(self, cpu: Cpu, code: bytes) -> bool:
        """#GP: an instruction that the guest's ring may not execute; the instruction pointer is at it."""

    def undefined(self, cpu: Cpu, code: bytes) -> bool:
        """#UD: ``vmcall``, for one; the instruction pointer is at it."""

    def fault(self, cpu: Cpu, address: int, write: bool) -> bool:
        """An access to memory that is not mapped; the instruction pointer is at the instruction."""

    def halted(self, cpu: Cpu) -> bool:
        """``hlt`` in ring 0; the instruction pointer is behind it."""

    def port_in(self, cpu: Cpu, port: int) -> int:
        """``in``, as far as the ring may."""

    def port_out(self, cpu: Cpu, port: int, value: int) -> None:
        """``out``: the guest writes a value to a port."""

    def tsc(self) -> int:
        """What ``rdtsc`` reads."""

    def cpuid(self, cpu: Cpu) -> None:
        """``cpuid``: changes the registers."""


class Cpu(State):
    """One emulated i386 CPU with flat memory.

    Args:
        host: what is below the guest.
        ring: the guest's: 0, 1 or 3.
        limits: what a run may take.

    Raises:
        RunError: the emulator is not installed.
    """

    #: Of its registers.
    width = 32
    #: What a guest in a ring of its own changes between two traps.
    own: tuple[str, ...] = ("eax", "ebx", "ecx", "edx", "esi", "edi", "ebp", "esp", "eip", "eflags")

    def __init__(self, host: Host, *, ring: int = 0, limits: Limits | None = None) -> None:
        super().__init__(self.width)
        self.host = host
        self.ring = ring
        self.limits = limits or Limits()
        self.traps = 0
        self.stopped: Stop | None = None
        self._missed: tuple[int, bool] | None = None
        self._refused = False
        self._end = 0.0
        #: A meter counts instructions and stops the CPU at the limit: no thread watches the time.
        self.counted = False
        self._own = [self._x[name] for name in self.own]
        self._before: object = None
        self._tsc: dict[int, int] = {}
        #: Called with the address of an instruction behind which the rest of its block is not executed.
        self.interrupted: Callable[[int], None] = lambda address: None
        self.uc.mem_map(FIRMWARE, PAGE)
        self._hook()

    # Running

    def enter(self, entry: int, stack: int) -> None:
        """Gets the CPU to an entry point in the guest's ring, as a boot loader or a hypervisor does: by ``iret``."""
        gdt, table, code = FIRMWARE + 0x100, flat_gdt(), FIRMWARE
        self.write(gdt, table)
        self.uc.reg_write(self._x["gdtr"], (0, gdt, len(table) - 1, 0))
        self.write(code, bytes.fromhex(f"b8{KERNEL_DS:02x}000000 8ed0 8ed8 8ec0 cf"))  # mov %ax to ss, ds, es; iret
        self.write(EXIT, b"\xf4")
        data, frame = selector(self.ring, data=True), FIRMWARE + 0xF00
        self.set("esp", frame)
        words = [entry, selector(self.ring), 2, stack, data]
        for i, value in enumerate(words):
            self.set_word(frame + 4 * i, value)
        self.uc.emu_start(code, entry)
        # Unicorn caches a block that ends at the address where it was told to stop.
        self.uc.ctl_remove_cache(entry, entry + 1)
        if not self.ring:  # an iret to the same ring leaves the stack alone
            self.set("esp", stack)
        for register in ("ds", "es", "fs"):
            self.uc.reg_write(self._x[register], data)
        self._before = self.uc.context_save()

    def run(self, until: int = EXIT) -> Stop:
        """Runs from where the CPU is until it gets to an address, or is stopped."""
        done = threading.Event()
        if not self.counted:
            threading.Thread(target=self._watch_clock, args=(done,), daemon=True).start()
        try:
            return self._run(until)
        finally:
            done.set()

    def _watch_clock(self, done: threading.Event) -> None:
        """Stops the emulator when the time is up, until that is noticed; Unicorn's own clock takes half the CPU."""
        if not done.wait(self.limits.seconds):
            while not done.wait(0.02):
                self.uc.emu_stop()

    def _run(self, until: int) -> Stop:
        self._end = time.monotonic() + self.limits.seconds
        self.stopped = None
        while self.stopped is None:
            begin = self.get("pc")
            if begin == until:
                return Stop("done", begin, "the guest is done")
            if time.monotonic() > self._end:
                return Stop("time", begin, f"more than {self.limits.seconds:g} s")
            try:
                self._turn(begin, until)
            except RunError as error:  # an address that the guest gave to its host
                self.stop("hypercall", f"asks for {error}")
        return self.stopped

    def _turn(self, begin: int, until: int) -> None:
        """Executes until something has to be done outside of the emulator, and does it."""
        self._missed, self._refused = None, False
        try:
            self.uc.emu_start(begin, until)
        except self._u.UcError as error:
            self._failed(error)
            return
        if self._refused:
            self._carry_out()
        elif self.stopped is None and self.get("pc") != until:
            self._halt()

    def stop(self, kind: str, why: str, address: int | None = None) -> None:
        """Ends the run."""
        if self.stopped is None:
            self.stopped = Stop(kind, self.get("pc") if address is None else address, why)
        self.uc.emu_stop()

    def _carry_out(self) -> None:
        """The instruction is privileged: it is the host's to carry out, or not."""
        at = self.get("pc")
        code = self._code(at)
        # Unicorn keeps a #GP pending: a second one becomes a #DF, a third a halt without notice. So the state from
        # before the first is restored; in the guest's ring nothing else than these registers can have changed since.
        values = self.uc.reg_read_batch(self._own)
        self.uc.context_restore(self._before)
        self.uc.reg_write_batch(list(zip(self._own, values, strict=True)))
        if not self.host.privileged(self, code):
            self.stop("trap", f"{code[:2].hex(' ')}…: not in ring {self.ring}, and the host does not carry it out", at)

    def _halt(self) -> None:
        """The emulator returned without a reason: the time is up, or it was a halt."""
        at = self.get("pc")
        if self._code(at - 1)[0] == 0xF4:
            self._count()
            if not self.host.halted(self):
                self.stop("trap", "halted for ever", at - 1)

    def _failed(self, error: Exception) -> None:
        """The emulator stopped at an access."""
        at = self.get("pc")
        if self._missed is None:
            self.stop("trap", f"the emulator says: {error}")
            return
        address, write = self._missed
        if self.in_text(at) and self.host.fault(self, address, write):
            self.interrupted(at)
            self._count()
        elif self.stopped is None:
            self.stop("memory", f"{'writes' if write else 'reads'} {address:#x}, where there is no memory", at)

    def _count(self) -> None:
        self.traps += 1
        if not self.traps & 0xFF and time.monotonic() > self._end:
            self.stop("time", f"more than {self.limits.seconds:g} s")
        if self.traps > self.limits.traps:
            self.stop("instructions", f"more than {self.limits.traps:,} traps")

    # Hooks

    def watch_tsc(self, addresses: Iterable[int]) -> None:
        """Scripts the ``rdtsc`` at each of these addresses, and no longer at others: the CPU does not trap there."""
        wanted = set(addresses)
        for address in [a for a in self._tsc if a not in wanted]:
            self.uc.hook_del(self._tsc.pop(address))
        for address in wanted - self._tsc.keys():
            self._tsc[address] = self.uc.hook_add(self._u.UC_HOOK_CODE, self._on_tsc, begin=address, end=address)

    def watch_returns(self, addresses: Iterable[int]) -> None:
        """Nothing on i386, whose guests do not come back from user space."""

    def _hook(self) -> None:
        u, x = self._u, self._x
        self.uc.hook_add(u.UC_HOOK_INTR, self._on_interrupt)
        self.uc.hook_add(u.UC_HOOK_INSN_INVALID, self._on_invalid)
        self.uc.hook_add(u.UC_HOOK_MEM_INVALID, self._on_memory)
        self.uc.hook_add(u.UC_HOOK_INSN, self._on_in, None, 1, 0, x["in"])
        self.uc.hook_add(u.UC_HOOK_INSN, self._on_out, None, 1, 0, x["out"])
        self.uc.hook_add(u.UC_HOOK_INSN, self._on_cpuid, None, 1, 0, x["cpuid"])

    def _on_interrupt(self, uc: Uc, number: int, data: object) -> None:
        self._count()
        at = self.get("pc")
        if number in (8, 13):
            self._refused = True
            self.uc.emu_stop()
        elif number == 3:
            self.stop("run-off", "ran off its code into padding", at - 1)
        elif not self.host.interrupt(self, number):
            self.stop("trap", f"int ${number:#x}: the host has no handler for it", at)

    def _on_invalid(self, uc: Uc, data: object) -> bool:
        self._count()
        at = self.get("pc")
        code = self._code(at)
        try:
            taken = self.host.undefined(self, code)
        except RunError as error:  # the emulator would raise an error of its own instead
            self.stop("hypercall", f"asks for {error}", at)
            return True
        if taken:
            return True
        if code[:2] == b"\x0f\x33" and self._rdpmc(code):
            return True
        if code[:2] == b"\x0f\x0b":
            self.stop("bug", "ud2: a call of an op that is NULL, or BUG()", at)
        else:
            self.stop("trap", f"{code[:3].hex(' ')}…: no instruction", at)
        return True

    def _rdpmc(self, code: bytes) -> bool:
        """Unicorn has no performance counters: in ring 0 they stand still, elsewhere the instruction is privileged."""
        if self.ring:
            return self.host.privileged(self, code)
        self.set("eax", 0)
        self.set("edx", 0)
        self.skip(2)
        return True

    def _on_memory(self, uc: Uc, access: int, address: int, size: int, value: int, data: object) -> bool:
        u = self._u
        if access == u.UC_MEM_WRITE_PROT:
            self.stop("text-write", f"writes over its own code at {address & self._mask:#x}")
        elif access in (u.UC_MEM_FETCH_UNMAPPED, u.UC_MEM_FETCH_PROT):
            self.stop("run-off", f"ran off to {address & self._mask:#x}, which is no code", address & self._mask)
        else:
            self._missed = address & self._mask, access in (u.UC_MEM_WRITE_UNMAPPED, u.UC_MEM_WRITE)
        return False

    def _on_in(self, uc: Uc, port: int, size: int, data: object) -> int:
        return self.host.port_in(self, port)

    def _on_out(self, uc: Uc, port: int, size: int, value: int, data: object) -> None:
        self.host.port_out(self, port, value)

    def _on_cpuid(self, uc: Uc, data: object) -> int:
        self.host.cpuid(self)
        return 1

    def _on_tsc(self, uc: Uc, address: int, size: int, data: object) -> None:
        value = self.host.tsc()
        self.set("eax", value)
        self.set("edx", value >> 32)
        self.set("pc", address + 2)
        self.interrupted(address)

    def _code(self, address: int) -> bytes:
        """The bytes of the instruction at an address; what is not there reads as int3."""
        try:
            return self.read(address, 8)
        except RunError:
            return b"\xcc" * 8
