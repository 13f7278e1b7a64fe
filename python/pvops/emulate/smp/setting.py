"""How a guest is run on several virtual CPUs, and what came of it."""

from __future__ import annotations

from pvops.emulate.cpu import Stop
from pvops.emulate.smp.scheduler import SCHEDULERS
from pvops.emulate.smp.watch import Broken
from pvops.errors import RunError, there_are
from pvops.tuples import NamedTuple

#: Physical CPUs, at most.
PCPUS = 1024


class Setting(NamedTuple):
    """How a guest is run. Times are cycles.

    Attributes:
        pcpus: physical CPUs.
        seed: of the quanta's lengths.
        scheduler: of `SCHEDULERS`.
        turns: acquisitions of each CPU.
        think, hold: between two acquisitions and in one: turns of a loop of two instructions.
        quantum: instructions at a stretch, on the average.
        slice: how long a virtual CPU may run while others wait.
        switch, exit, kick: what it costs to put a virtual CPU on a physical one, to leave the guest in order to sleep,
            and to wake another.
        tick: from one timer interrupt of a virtual CPU, whose handler takes a lock of its own, to the next; 0: none.
        tick_sleepers: they come to those that sleep too, by the clock of cycles.
        ticket: the lock's first ticket.
        buffers: CPUs have store buffers.
        user: each turn is a system call of a program in user space (x86-64).
        most: instructions of all together, before a run is given up.
    """

    pcpus: int = 2
    seed: int = 1
    scheduler: str = "credit"
    turns: int = 4
    think: int = 4
    hold: int = 4
    quantum: int = 6
    slice: int = 400
    switch: int = 20
    exit: int = 20
    kick: int = 40
    tick: int = 0
    tick_sleepers: bool = False
    ticket: int = 0
    buffers: bool = False
    user: bool = False
    most: int = 20_000_000

    def check(self) -> None:
        """Raises `RunError` where it makes no sense."""
        least = {"pcpus": 1, "turns": 1, "quantum": 1, "slice": 1, "most": 1}
        for name in (
            "pcpus",
            "seed",
            "turns",
            "think",
            "hold",
            "quantum",
            "slice",
            "switch",
            "exit",
            "kick",
            "tick",
            "most",
        ):
            value = getattr(self, name)
            if not least.get(name, 0) <= value < 1 << (64 if name == "seed" else 31):
                raise RunError(f"{name}: {value} is less than {least.get(name, 0)}, or more than any run takes")
        if self.user and self.tick:
            raise RunError("ticks come to kernels only: no user space with them")
        if self.pcpus > PCPUS:
            raise RunError(f"pcpus: {self.pcpus} is more than {PCPUS:,}, where all but a few idle")
        if self.scheduler not in SCHEDULERS:
            raise RunError(f"no scheduler {self.scheduler}{there_are(self.scheduler, SCHEDULERS)}")


class Outcome(NamedTuple):
    """What came of a run.

    Attributes:
        setting: how it was run.
        stop: why it ended: ``done``, ``deadlock``, ``hang``, ``livelock``, ``broken``, or as of one CPU.
        broken: the promise that was not kept.
        cycles: of the physical CPU that ended last.
        parts: cycles of all virtual CPUs: ``useful``, ``spin``, ``blocked``, ``overhead``, ``idle``.
        acquisitions: of each virtual CPU.
        waits: from arriving to entering, of each acquisition.
        calls: hypercalls by name.
        blocked: how often a virtual CPU slept.
        instructions: executed, of all CPUs.
        final_state: what the program came to: the counter, and each CPU's acquisitions.
        preempted: how often one lost its physical CPU, and how often while it held the lock.
    """

    setting: Setting
    stop: Stop
    broken: Broken | None
    cycles: int
    parts: dict[str, int]
    acquisitions: tuple[int, ...]
    waits: tuple[int, ...]
    calls: dict[str, int]
    blocked: int
    instructions: int
    final_state: str
    preempted: tuple[int, int]

    @property
    def ok(self) -> bool:
        """Everybody was done, and every promise kept."""
        return self.stop.kind == "done" and self.broken is None


#: Where the cycles of a virtual CPU go.
PARTS = ("useful", "spin", "blocked", "overhead", "idle")
