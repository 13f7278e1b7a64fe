"""A virtual CPU among others: an emulator over shared memory, that executes so many instructions and stops.

Only one executes at a time, and stops between two instructions. So each instruction is atomic, locked or not, and what
one CPU stores all others see at once: memory is sequentially consistent, which x86 is but for its store buffers. Those
are laid over it where a run wants them (`pvops.emulate.smp.stores`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

from pvops.emulate.cpu import Stop
from pvops.emulate.emulator import unicorn
from pvops.emulate.segments import descriptor
from pvops.emulate.smp.memory import PAGE, Memory
from pvops.errors import RunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.emulate.emulator import Uc

#: Each CPU's own page, which is not shared: the descriptor table, the code that enters the guest and its stack.
FIRMWARE = 0x1000
#: Selectors: code and data of ring 0, and 0x20 on for each ring; per-CPU data behind those.
_CODE, _DATA, _PER_CPU = 0x10, 0x18, 0x90
#: The interrupt flag.
IF = 0x200
#: MSRs of system calls, and where ``swapgs`` finds the other base.
_EFER, _STAR, _KERNEL_GS_BASE = 0xC0000080, 0xC0000081, 0xC0000102
_GENERAL = (
    *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"),
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"),
)


class Below(Protocol):
    """What is below a virtual CPU: it is told of every trap."""

    def trap(self, cpu: Vcpu, kind: str, number: int) -> bool:
        """``int`` (with its number), ``syscall``, ``vmcall``, ``hlt``, ``rdmsr`` and ``wrmsr`` (with the MSR's); false
        where it has no handler for it."""

    def cpuid(self, cpu: Vcpu) -> bool:
        """``cpuid``; false where the CPU itself is to answer."""


class Vcpu:
    """One virtual CPU.

    Args:
        number: its number, from 0.
        memory: what it shares with the others.
        text: (first, last) addresses that may be executed and not written.
        bits: 32 or 64.
        ring: its kernel's: 0, 1 or 3.
        below: the hypervisor.
        halts: addresses of ``hlt``.

    Raises:
        RunError: the emulator is not installed.
    """

    def __init__(self, number: int, memory: Memory, text: tuple[int, int], bits: int, ring: int, below: Below) -> None:
        self.number = number
        self.memory = memory
        self.bits = bits
        self.ring = ring
        self.below = below
        #: Why it executes no more.
        self.stopped: Stop | None = None
        #: What stopped it before its instructions were used up.
        self.trapped = False
        #: Told when it leaves the guest, before its host does anything.
        self.leaves: Callable[[], None] = lambda: None
        self._u, self._x, self.uc = unicorn(bits)
        self._pc, self._sp, self._flags = ("rip", "rsp", "rflags") if bits == 64 else ("eip", "esp", "eflags")
        self.uc.ctl_set_tlb_mode(self._u.UC_TLB_VIRTUAL)
        self.uc.mem_map(FIRMWARE, PAGE)
        self._map(text)
        self._entering: int | None = None
        self._own = [self._x[name] for name in _GENERAL] if bits == 64 else []
        #: How far behind the program counter the CPU goes on.
        self._ahead = 0
        self._halting = False
        self._hook()
        self._reset = self.uc.context_save()

    def _map(self, text: tuple[int, int]) -> None:
        low, high = text
        memory = self.memory
        end = memory.address + memory.size
        for first, last, access in ((memory.address, low, 3), (low, high, 5), (high, end, 3)):
            if first < last:
                self.uc.mem_map_ptr(first, last - first, access, memory.pointer + first - memory.address)

    # Registers and memory

    def get(self, register: str) -> int:
        """A register by name; ``pc``, ``sp`` and ``flags`` have the width's own."""
        return self.uc.reg_read(self._x[self._named(register)])

    def set(self, register: str, value: int) -> None:
        """Sets a register."""
        self.uc.reg_write(self._x[self._named(register)], value & (1 << self.bits) - 1)

    def _named(self, register: str) -> str:
        return {"pc": self._pc, "sp": self._sp, "flags": self._flags}.get(register, register)

    def number_at(self, address: int, size: int) -> int:
        """Memory as a number."""
        return self.memory.number(address, size)

    def push(self, value: int) -> None:
        """Pushes a word on the guest's stack."""
        top = self.get("sp") - self.bits // 8
        self.set("sp", top)
        self.memory.set_number(top, self.bits // 8, value)

    def pop(self) -> int:
        """Pops a word from the guest's stack."""
        top = self.get("sp")
        self.set("sp", top + self.bits // 8)
        return self.memory.number(top, self.bits // 8)

    def frame(self, flags: int) -> None:
        """Pushes what an interrupt pushes: on x86-64 the stack too, aligned."""
        words = [flags, self.get("cs"), self.get("pc") + self._ahead]
        if self.bits == 64:
            stack = self.get("sp")
            self.set("sp", stack & ~15)
            words = [self.get("ss"), stack, *words]
        for word in words:
            self.push(word)

    def skip(self, length: int) -> None:
        """Goes on behind an instruction."""
        self.set("pc", self.get("pc") + length)

    # Running

    def enter(self, entry: int, stack: int, per_cpu: int, flags: int = 2) -> None:
        """Gets the CPU to an entry point in its ring, as firmware or a hypervisor does: by ``iret``.

        Args:
            entry: where it starts.
            stack: its top.
            per_cpu: base of the segment of per-CPU data: fs, on x86-64 gs.
            flags: what its flags are then.
        """
        self.stopped = None
        #: Base of the segment of per-CPU data.
        self.per_cpu = per_cpu
        self.uc.context_restore(self._reset)
        table = bytearray(0xA0)
        wide = self.bits == 64
        for ring in range(4):
            executed = descriptor(0, 0xFFFFF, 0x9B | ring << 5, 0xA if wide else 0xC)
            table[_CODE + 0x20 * ring : _CODE + 0x20 * ring + 8] = executed
            table[_DATA + 0x20 * ring : _DATA + 0x20 * ring + 8] = descriptor(0, 0xFFFFF, 0x93 | ring << 5)
        table[_PER_CPU : _PER_CPU + 8] = descriptor(per_cpu & 0xFFFFFFFF, 0xFFFFF, 0x93 | self.ring << 5)
        at = FIRMWARE + 0x100
        self.uc.mem_write(at, bytes(table))
        self.uc.reg_write(self._x["gdtr"], (0, at, len(table) - 1, 0))
        load = b"\x66\xb8" + _DATA.to_bytes(2, "little") + bytes.fromhex("8ed0 8ed8 8ec0")
        self.uc.mem_write(FIRMWARE, load + (b"\x48\xcf" if wide else b"\xcf"))
        code, data, frame = (
            _CODE + 0x20 * self.ring | self.ring,
            _DATA + 0x20 * self.ring | self.ring,
            FIRMWARE + 0xF00,
        )
        self.uc.reg_write(self._x[self._sp], frame)
        size = self.bits // 8
        words = (entry, code, flags, stack, data)
        self.uc.mem_write(frame, b"".join(word.to_bytes(size, "little") for word in words))
        self.uc.emu_start(FIRMWARE, entry)
        self.uc.ctl_remove_cache(entry, entry + 1)  # Unicorn caches a block that ends where it was told to stop
        self.set("sp", stack)
        if wide:
            self.uc.reg_write(self._x["gs_base"], per_cpu)
            self._system_calls()
        else:
            for register in ("ds", "es"):
                self.uc.reg_write(self._x[register], data)
            self.uc.reg_write(self._x["fs"], _PER_CPU | self.ring)

    def _system_calls(self) -> None:
        """What ``syscall_init()`` tells a CPU of its own: ``sysretq`` is allowed, and its selectors."""
        self.uc.msr_write(_EFER, self.uc.msr_read(_EFER) | 1)
        self.uc.msr_write(_STAR, (_CODE + 0x20 * 3 - 16) << 48 | _CODE << 32)
        self._kernel = self.uc.context_save()

    @property
    def in_user(self) -> bool:
        """Whether it executes user space, where that has a ring of its own."""
        return self.get("cs") & 3 != self.ring

    def calls_kernel(self, entry: int) -> None:
        """A system call of user space, taken by the CPU itself: it stops, and goes on at this entry in ring 0."""
        self._entering = entry
        self.pause()

    def _enter_kernel(self, entry: int) -> None:
        # Unicorn's syscall does nothing, and no register that it lets one write changes the ring.
        values = self.uc.reg_read_batch(self._own)
        bases = self.uc.reg_read(self._x["gs_base"]), self.uc.msr_read(_KERNEL_GS_BASE)
        back, flags = self.get("pc"), self.get("flags")
        self.uc.context_restore(self._kernel)
        self.uc.reg_write_batch(list(zip(self._own, values, strict=True)))
        self.uc.reg_write(self._x["gs_base"], bases[0])
        self.uc.msr_write(_KERNEL_GS_BASE, bases[1])
        self.set("rcx", back)
        self.set("r11", flags)
        self.set("flags", flags & ~IF)
        self.set("pc", entry)

    def step(self, count: int, until: int) -> None:
        """Executes so many instructions, fewer if it traps, stops or gets to an address."""
        self.trapped = self._halting = False
        try:
            self.uc.emu_start(self.get("pc"), until, 0, count)
        except self._u.UcError as error:
            self.stop("trap", f"the emulator says: {error}")
        if self._halting:
            self._take("hlt", 0)
        if self._entering is not None:
            entry, self._entering = self._entering, None
            self._enter_kernel(entry)

    def stop(self, kind: str, why: str, address: int | None = None) -> None:
        """Ends the execution of this virtual CPU for good."""
        if self.stopped is None:
            self.stopped = Stop(kind, self.get("pc") if address is None else address, why)
        self.uc.emu_stop()

    def pause(self) -> None:
        """Ends this stretch of execution; the next run goes on."""
        self.trapped = True
        self.uc.emu_stop()

    def _take(self, kind: str, number: int) -> None:
        self.trapped = True
        self.leaves()
        try:
            taken = self.below.trap(self, kind, number)
        except RunError as error:  # an address that the guest gave to its host
            self.stop("hypercall", f"asks for {error}")
            return
        if not taken:
            what = f"{kind} {number:#x}" if kind == "int" else kind
            self.stop("trap", f"{what}: the host has no handler for it")

    # Hooks

    def watch(self, hooks: Mapping[int, Callable[[int], None]]) -> None:
        """Calls these, with the address, before each of these instructions."""
        for address, called in hooks.items():
            self.uc.hook_add(
                self._u.UC_HOOK_CODE, lambda uc, at, size, data, called=called: called(at), begin=address, end=address
            )

    def watch_halts(self, addresses: list[int]) -> None:
        """Tells of every ``hlt``."""

        def halts(at: int) -> None:
            self._halting = True

        self.watch(dict.fromkeys(addresses, halts))

    def watch_msrs(self, instructions: Mapping[int, str]) -> None:
        """Tells of every ``rdmsr`` and ``wrmsr``, given by address: in ring 0 the emulator does not trap."""

        def accessed(kind: str, at: int) -> None:
            self.set("pc", at + 2)
            self._take(kind, self.get("ecx"))

        self.watch({at: partial(accessed, kind) for at, kind in instructions.items()})

    def watch_accesses(self, address: int, size: int, called: Callable[[], None]) -> None:
        """Tells of every access to a range of memory."""

        def accessed(uc: Uc, access: int, at: int, size: int, value: int, data: object) -> None:
            called()

        kind = self._u.UC_HOOK_MEM_READ | self._u.UC_HOOK_MEM_WRITE
        self.uc.hook_add(kind, accessed, begin=address, end=address + size - 1)

    def watch_writes(self, called: Callable[..., None]) -> None:
        """Tells of every store, before it happens, as Unicorn does."""
        self.uc.hook_add(self._u.UC_HOOK_MEM_WRITE, called)

    def _hook(self) -> None:
        u, x = self._u, self._x
        self.uc.hook_add(u.UC_HOOK_INTR, self._on_interrupt)
        self.uc.hook_add(u.UC_HOOK_INSN_INVALID, self._on_invalid)
        self.uc.hook_add(u.UC_HOOK_MEM_INVALID, self._on_memory)
        self.uc.hook_add(u.UC_HOOK_INSN, self._on_cpuid, None, 1, 0, x["cpuid"])
        if self.bits == 64:
            self.uc.hook_add(u.UC_HOOK_INSN, self._on_syscall, None, 1, 0, x["syscall"])

    def _on_interrupt(self, uc: Uc, number: int, data: object) -> None:
        if number == 3:
            self.stop("run-off", "ran off its code into padding")
        elif number in (8, 13):
            code = bytes(self.uc.mem_read(self.get("pc"), 4))
            self.stop("trap", f"{code.hex(' ')}…: not in ring {self.ring}")
        else:
            self._take("int", number)

    def _on_cpuid(self, uc: Uc, data: object) -> int:
        return int(self.below.cpuid(self))

    def _on_syscall(self, uc: Uc, data: object) -> None:
        at = self.get("pc")
        self._ahead = 2
        self._take("syscall", 0)
        self._ahead = 0
        if self.get("pc") != at:  # the emulator goes on two bytes further
            self.set("pc", self.get("pc") - 2)

    def _on_invalid(self, uc: Uc, data: object) -> bool:
        code = bytes(self.uc.mem_read(self.get("pc"), 3))
        if code in (b"\x0f\x01\xc1", b"\x0f\x01\xd9"):
            self.skip(3)
            self._take("vmcall", 0)
        elif code[:2] == b"\x0f\x0b":
            self.stop("bug", "ud2: a call of an op that is NULL, or BUG()")
        else:
            self.stop("trap", f"{code.hex(' ')}…: no instruction")
        return True

    def _on_memory(self, uc: Uc, access: int, address: int, size: int, value: int, data: object) -> bool:
        u = self._u
        at = address & (1 << self.bits) - 1
        if access == u.UC_MEM_WRITE_PROT:
            self.stop("text-write", f"writes over its own code at {at:#x}")
        elif access in (u.UC_MEM_FETCH_UNMAPPED, u.UC_MEM_FETCH_PROT):
            self.stop("run-off", f"ran off to {at:#x}, which is no code", at)
        else:
            self.stop("memory", f"accesses {at:#x}, where there is no memory")
        return False
