"""What a lock's code is written with: the macros of its era, the width, the steps, and which bug is planted."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pvops.assembler.statements import Body, Within
from pvops.emulate.guest.locks.steps import At, Steps, Texts
from pvops.emulate.guest.locks.width import Width
from pvops.emulate.macros.paravirt import Paravirt
from pvops.tuples import NamedTuple

#: Per-CPU data, offsets: the CPU's number; what it waits for (``struct kvm_lock_waiting``, ``struct xen_lock_waiting``,
#: and a slot of this project's lock); the event channel that wakes it; turns of waiting; Xen's
#: ``vcpu_info``.
NUMBER, W_WANT, W_LOCK, KICKER, COUNT, VCPU_INFO = 0, 4, 8, 16, 20, 64
#: User space's stack pointer while the kernel runs, and where the kernel's stack begins (x86-64).
OLD_SP, KERNEL_STACK = 32, 40
#: Of ``struct vcpu_info``: evtchn_upcall_pending, evtchn_upcall_mask.
PENDING, MASK = 0, 1
#: Bytes of it for each CPU, a power of two, and how many CPUs there may be.
PER_CPU, CPUS = 128, 32
PER_CPU_SHIFT = 7

IF = 0x200


class Code(NamedTuple):
    """What a lock is written for.

    Attributes:
        w: the width.
        pv: the macros of the era.
        steps: collects.
        threshold: looks at a lock before a waiter blocks (``SPIN_THRESHOLD``).
        mutant: the bug to plant, by the checker's name.
        symbols: the guest's, once it is assembled.
    """

    w: Width
    pv: Paravirt
    steps: Steps
    threshold: int
    mutant: str | None
    symbols: dict[str, int]

    def aside(self, body: Body) -> Within:
        """Code out of line, behind all other functions."""
        return Within(".text.unlikely", body)

    def slots(self) -> int:
        """Where the table of slots lies, once the guest is assembled."""
        return self.symbols["slots"]

    def planted(self, mutant: str) -> bool:
        """Whether this bug is planted."""
        return self.mutant == mutant


class Variable(NamedTuple):
    """A variable of the checker's model, in the guest's memory.

    Attributes:
        offset: from the lock, or in per-CPU data (`own`).
        size: bytes.
        shift: of its lowest bit.
        bits: how many.
        own: each CPU has it.
        pointer: it holds the address of a lock, and the model which: 1, or 2 of interrupt handlers.
    """

    offset: int
    size: int
    shift: int = 0
    bits: int = 32
    own: bool = False
    pointer: bool = False

    def of(self, raw: int, nested: int = 0) -> int:
        """Its value, from what memory holds; `nested`: as much of the address of the handlers' lock as it holds."""
        if self.pointer:
            return 2 if raw and raw == nested else int(raw != 0)
        return raw >> self.shift & (1 << self.bits) - 1


class Protocol(NamedTuple):
    """A lock protocol as machine code.

    Attributes:
        name: the checker's and the simulator's.
        eras: whose kernel has it, for 32 and 64 bits. (The macros have x86-64 from 2.6.33 on.)
        doc: in a line.
        acquire, release: the code, inlined where it is used, for the lock whose address is in ``w.lock``.
        functions: what it calls: native functions of its ops, and a backend's slow path.
        backends: below which its guests run, with the ops that each fills.
        variables: of the model.
        mutants: which bugs can be planted.
        fifo: who arrives first enters first.
        no_touch: nobody touches the lock after giving it up.
        slots: parking slots in a guest with this bug, where waiters have some.
        slow: functions that a waiter is in when it has spun for long enough.
        natives: functions of its ops on bare hardware.
        features: the feature numbers that a guest's CPU has below each backend, for its alternatives.
        pointers: function pointers beside the ops, and the functions that a backend's init code puts there.
        slept: the model's line for a sleep that is over.
        key: symbol of the static key that the backends turn on, if there is one.
        ticket: how far the tickets of a new lock are set on, so that schedules meet their wrap: from a ticket to the
            lock's word.
    """

    name: str
    eras: Mapping[int, str]
    doc: str
    acquire: Callable[[Code, str], Body]
    release: Callable[[Code, str], Body]
    functions: Callable[[Code, str], Body]
    backends: Mapping[str, Mapping[str, str]]
    variables: Mapping[str, Variable]
    mutants: tuple[str, ...]
    fifo: bool = True
    no_touch: bool = True
    slots: Callable[[str | None], int | None] = lambda mutant: None
    slow: tuple[str, ...] = ()
    natives: Callable[[Code], Mapping[str, Body]] = lambda code: {}
    features: Mapping[str, tuple[int, ...]] = {}
    pointers: Mapping[str, Mapping[str, str]] = {}
    slept: str = "halt until kicked"
    key: str = ""
    ticket: Callable[[int], int] = lambda ticket: 0

    def blocks(self, backend: str) -> bool:
        """Whether waiters sleep below a backend."""
        return bool(self.backends[backend] or self.pointers.get(backend))


def exchanged(w: Width, *texts: str) -> Texts:
    """The lines that a ``cmpxchg`` of the lock's word is if it exchanges; none if it finds another word."""

    def told(cpu: At) -> tuple[str, ...]:
        return texts if cpu.number_at(cpu.get(w.lock.name), 4) == cpu.get("eax") else ()

    return told
