"""Simulated virtual CPUs that share locks: one case, or many at once.

What happens when is the core's (``src/lock/sim``, whose first page is the specification). A case is a value; the same
case gives the same outcome on every machine.

    >>> from pvops.lock.simulate import Case, simulate
    >>> plain = simulate(Case("ticket-2.6.25", vcpus=16, pcpus=8))
    >>> plain.spin > 50 * plain.useful
    True
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, as_completed
from functools import partial
from typing import Any

import pvops._core as _core
from pvops import display
from pvops.cpus import usable_cpus
from pvops.errors import LockError
from pvops.processes import pool
from pvops.tuples import NamedTuple

#: Names of the protocols, oldest first, and of the schedulers.
PROTOCOLS, SCHEDULERS = map(tuple, _core.simulated_names())

#: Where the time of virtual CPUs goes.
PARTS = ("useful", "spin", "blocked", "overhead", "idle")

#: More spans than a picture can show.
_MOST_SPANS = 200_000


class Distribution(NamedTuple):
    """How times scatter: ``constant``, ``exponential`` or ``uniform`` (from 0 to twice the mean); the mean in µs."""

    kind: str
    mean_us: float

    @classmethod
    def parse(cls, parameter: str, text: str) -> Distribution:
        """Reads ``20`` (constant) or ``exponential:20``, in µs.

        Raises:
            LockError: it is neither; the message begins with the parameter's name.
        """
        kind, colon, mean = text.rpartition(":")
        try:
            return cls(kind if colon else "constant", float(mean))
        except ValueError:
            raise LockError(f"{parameter}: {text!r} is neither a time in µs nor KIND:TIME") from None

    def __str__(self) -> str:
        return f"{self.kind}:{self.mean_us:g}"


class Usual(NamedTuple):
    """Stands for the usual threshold of the protocol."""


_THINK = Distribution("exponential", 20.0)
_HOLD = Distribution("exponential", 0.5)
_IRQ_HOLD = Distribution("constant", 1.0)

#: The usual threshold of the protocol: the kernel's iterations as time, or this project's 10 µs.
USUAL = Usual()


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """What is simulated.

    Attributes:
        protocol: one of `PROTOCOLS`.
        threshold_us: how long a waiter spins before it blocks, in µs; None for ever.
        vcpus, pcpus: virtual CPUs, of all virtual machines together, and physical ones.
        vms: virtual machines, which share the virtual CPUs evenly and have locks of their own.
        locks: locks of a virtual machine, each chosen as often.
        scheduler: one of `SCHEDULERS`.
        seed: of all that is drawn, 0 to 2**64 - 1.
        duration: seconds simulated.
        think, hold: between two critical sections, and in one.
        slice_us: the scheduler's slice.
        switch_us, kick_us, exit_us: what it costs to put a virtual CPU on a physical one, to kick, and to leave the
            guest in order to block or to yield.
        ple_us: pause-loop exiting: how long a stretch of spinning may be before the hypervisor makes another run.
        patience_us: from which wait on ``pv-hybrid`` hands over directly.
        irq_interval, irq_hold: interrupts, whose handlers take another lock, after so much time in the guest; None for
            none.
        ticket_bits: 8, 16 or 32; None for what suffices.
    """

    protocol: str
    _: dataclasses.KW_ONLY
    threshold_us: float | Usual | None = USUAL
    vcpus: int = 16
    pcpus: int = 8
    vms: int = 1
    locks: int = 1
    scheduler: str = "credit"
    seed: int = 1
    duration: float = 1.0
    think: Distribution = _THINK
    hold: Distribution = _HOLD
    slice_us: float = 6000.0
    switch_us: float = 1.5
    kick_us: float = 5.0
    exit_us: float = 1.0
    ple_us: float | None = None
    patience_us: float = 1000.0
    irq_interval: Distribution | None = None
    irq_hold: Distribution = _IRQ_HOLD
    ticket_bits: int | None = None

    def __repr__(self) -> str:
        other = (f for f in dataclasses.fields(self) if f.name != "protocol" and getattr(self, f.name) != f.default)
        return f"Case({', '.join([repr(self.protocol), *(f'{f.name}={getattr(self, f.name)!r}' for f in other)])})"

    def _arguments(self) -> dict[str, Any]:
        """What the core is called with."""
        arguments = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if isinstance(self.threshold_us, Usual):
            arguments["threshold_us"] = _core.usual_threshold_us(self.protocol)
        for name, value in arguments.items():
            _check(name, value)
        return arguments


#: The ranges of whole numbers that the core can be called with.
_WHOLE = dict.fromkeys(("vcpus", "pcpus", "vms", "locks"), (-(2**63), 2**63 - 1)) | {
    "seed": (0, 2**64 - 1),
    "ticket_bits": (0, 2**32 - 1),
}


def _check(name: str, value: object) -> None:
    """Whether a parameter has the type and range that the core can take; what it means is checked there."""
    if name in _WHOLE:
        if value is None and name == "ticket_bits":
            return
        if not isinstance(value, int) or isinstance(value, bool):
            raise LockError(f"{name}: {value!r} is not a whole number")
        least, most = _WHOLE[name]
        if not least <= value <= most:
            raise LockError(f"{name}: {value} is not within {least} and {most}")
    elif name == "duration" or name.endswith("_us"):
        _check_number(name, value, optional=name in ("threshold_us", "ple_us"))
    elif name in ("think", "hold", "irq_interval", "irq_hold"):
        if value is None and name == "irq_interval":
            return
        if not isinstance(value, tuple) or len(value) != 2 or not isinstance(value[0], str):
            raise LockError(f"{name}: {value!r} is no distribution")
        _check_number(name, value[1], optional=False)
    elif not isinstance(value, str):
        raise LockError(f"{name}: {value!r} is no name")


def _check_number(name: str, value: object, *, optional: bool) -> None:
    if value is None and optional:
        return
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise LockError(f"{name}: {value!r} is not a number")
    if isinstance(value, int) and abs(value) > 2**1000:
        raise LockError(f"{name}: the number has {value.bit_length()} bits")


class Span(NamedTuple):
    """A stretch of one virtual CPU in one state: think, hold, spin, blocked, overhead or idle; times in ps."""

    vcpu: int
    pcpu: int | None
    state: str
    start: int
    end: int


class Preempted(NamedTuple):
    """The first lock holder that lost its physical CPU; `at` in ps, `waiters` of its lock then."""

    at: int
    vcpu: int
    pcpu: int
    waiters: int


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What came of a case.

    Attributes:
        case: what was simulated.
        threshold_us: the threshold it ran with; None where it never blocks.
        duration: seconds simulated, to the nearest ps.
        useful, spin, blocked, overhead, idle: seconds of all virtual CPUs together. Their sum, added as floating-point
            numbers in any order, is ``vcpus * duration`` exactly. `idle`: could run, and had no physical CPU.
        picoseconds: the same as whole numbers, with their ``total``.
        acquisitions: by virtual CPU, locks taken, held and given back.
        p50_us, p999_us: waits of those who got the lock, in µs, to 1/64; None where nobody did.
        max_us: the longest wait exactly, those that had not ended included.
        waits: (up to so many ps, how many) by length.
        fairness: the fewest acquisitions of a virtual CPU over the most.
        events, events_per_second: how many were handled, and how fast.
        counters: how often what happened.
        preempted: the first lock holder that lost its physical CPU.
        spans: what was recorded.
    """

    case: Case
    threshold_us: float | None
    duration: float
    useful: float
    spin: float
    blocked: float
    overhead: float
    idle: float
    picoseconds: Mapping[str, int]
    acquisitions: Sequence[int]
    p50_us: float | None
    p999_us: float | None
    max_us: float
    waits: Sequence[tuple[int, int]]
    fairness: float | None
    events: int
    events_per_second: float
    counters: Mapping[str, int]
    preempted: Preempted | None
    spans: Sequence[Span]

    def __repr__(self) -> str:
        share = self.useful / (self.case.vcpus * self.duration) if self.duration else 0.0
        return f"<Result of {self.case}: {sum(self.acquisitions):,} acquisitions, {share:.1%} of the time useful>"

    def _repr_html_(self) -> str:
        return display.show(self, "fragment")

    @property
    def throughput(self) -> float:
        """Acquisitions a second, of all virtual CPUs."""
        return sum(self.acquisitions) / self.duration

    @property
    def busy(self) -> float:
        """Seconds for which physical CPUs worked: useful, spinning or for the hypervisor."""
        return self.useful + self.spin + self.overhead

    @property
    def spinning(self) -> float:
        """The share of `busy` that went into spinning."""
        return self.spin / self.busy if self.busy else 0.0

    def to_dict(self) -> dict[str, object]:
        """A row of ``pvops lock simulate --json``."""
        case = self.case
        return {
            "protocol": case.protocol,
            "threshold_us": self.threshold_us,
            "vcpus": case.vcpus,
            "pcpus": case.pcpus,
            "vms": case.vms,
            "locks": case.locks,
            "scheduler": case.scheduler,
            "seed": case.seed,
            "duration": self.duration,
            "think": str(case.think),
            "hold": str(case.hold),
            "slice_us": case.slice_us,
            "switch_us": case.switch_us,
            "kick_us": case.kick_us,
            "exit_us": case.exit_us,
            "ple_us": case.ple_us,
            "patience_us": case.patience_us,
            "irq_interval": None if case.irq_interval is None else str(case.irq_interval),
            "irq_hold": None if case.irq_interval is None else str(case.irq_hold),
            "ticket_bits": case.ticket_bits,
            "acquisitions": sum(self.acquisitions),
            **{part: getattr(self, part) for part in PARTS},
            "picoseconds": dict(self.picoseconds),
            "waits": {"p50_us": self.p50_us, "p999_us": self.p999_us, "max_us": self.max_us},
            "fairness": self.fairness,
            "events": self.events,
            "events_per_second": self.events_per_second,
            "counters": dict(self.counters),
        }


def simulate(case: Case, *, window: tuple[int, int] | None = None) -> Result:
    """Simulates a case, and records what happens in a window, [from, to) in ps.

    Raises:
        LockError: a parameter makes no sense; the message begins with its name.
    """
    edges = None if window is None else (max(window[0], 0), max(window[1], 0), _MOST_SPANS)
    out = _core.simulate_lock(**case._arguments(), window=edges)
    parts: Sequence[int] = out["parts_ps"]
    useful, spin, blocked, overhead, idle = out["parts"]
    return Result(
        case=case,
        threshold_us=out["threshold_us"],
        duration=out["duration"],
        useful=useful,
        spin=spin,
        blocked=blocked,
        overhead=overhead,
        idle=idle,
        picoseconds=dict(zip(PARTS, parts, strict=True)) | {"total": sum(parts), "duration": out["duration_ps"]},
        acquisitions=out["acquisitions"],
        p50_us=out["p50_us"],
        p999_us=out["p999_us"],
        max_us=out["max_us"],
        waits=out["waits"],
        fairness=out["fairness"],
        events=out["events"],
        events_per_second=out["events"] / out["wall"] if out["wall"] else 0.0,
        counters=out["counters"],
        preempted=None if out["preempted"] is None else Preempted(*out["preempted"]),
        spans=[Span(*span) for span in out["spans"]],
    )


def around_preempted_holder(case: Case) -> Result:
    """Simulates a case and records what happens around the first preemption of a lock holder, until some time after the
    holder ran again.

    Raises:
        LockError: no holder was preempted.
    """
    found = simulate(case).preempted
    if found is None:
        raise LockError("protocol: no lock holder was preempted, so there is nothing to show")
    rounds = 1 + -(-case.vcpus // case.pcpus)
    after = simulate(case, window=(found.at, found.at + round(rounds * case.slice_us * 1e6)))
    back = (s.start for s in after.spans if s.vcpu == found.vcpu and s.pcpu is not None and s.start > found.at)
    away = min(back, default=found.at + round(case.slice_us * 1e6)) - found.at
    return simulate(case, window=(found.at - away // 3, found.at + 5 * away // 2))


def sweep(
    cases: Iterable[Case], *, executor: Executor | None = None, progress: Callable[[int, int], None] | None = None
) -> list[Result]:
    """Simulates cases, and returns their results in the same order.

    `executor` is any of `concurrent.futures`, or ``distributed.Client(...).get_executor()``; without one, a process for
    each CPU. `progress` is told how many are done, of how many.

    Raises:
        LockError: of the first case that makes no sense; the others are given up.
    """
    todo = list(cases)
    if executor is None:
        workers = min(len(usable_cpus()), len(todo))
        if workers <= 1:
            return _collected(todo, [_done(case) for case in todo], progress)
        with pool(workers) as own:
            return sweep(todo, executor=own, progress=progress)
    futures = [executor.submit(partial(simulate, case)) for case in todo]
    return _collected(todo, futures, progress)


def _done(case: Case) -> Future[Result]:
    future: Future[Result] = Future()
    future.set_result(simulate(case))
    return future


def _collected(
    todo: Sequence[Case], futures: Sequence[Future[Result]], progress: Callable[[int, int], None] | None
) -> list[Result]:
    try:
        for done, future in enumerate(as_completed(futures), 1):
            future.result()
            if progress is not None:
                progress(done, len(todo))
        return [future.result() for future in futures]
    except BaseException:
        for future in futures:
            future.cancel()
        raise
