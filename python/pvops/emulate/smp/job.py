"""Many runs of locks: every protocol, backend and width, patched or not, over many schedules."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import product

from pvops.emulate.cpu import Stop
from pvops.emulate.guest import locks
from pvops.emulate.guest.locks.kernel import LockImage
from pvops.emulate.smp.machine import Machine
from pvops.emulate.smp.record import Event, Recorder, Span
from pvops.emulate.smp.setting import Outcome, Setting
from pvops.tuples import NamedTuple


class LockJob(NamedTuple):
    """What to run; every combination of it.

    Attributes:
        protocols: names of locks.
        backends: below them; empty: all that a protocol has.
        vcpus: virtual CPUs.
        setting: how; its seed is that of the first schedule.
        schedules: how many seeds.
        bits: widths.
        patched: with sites patched, without, or both.
        threshold: looks before a waiter blocks.
        mutant: the bug to plant; None: none, ``"all"``: each that a protocol has, after the sound one.
        record: keep what happened, of the first schedule.
    """

    protocols: Sequence[str] = locks.NAMES
    backends: Sequence[str] = ()
    vcpus: int = 4
    setting: Setting = Setting()
    schedules: int = 1
    bits: Sequence[int] = (32, 64)
    patched: Sequence[bool] = (False, True)
    threshold: int = 16
    mutant: str | None = None
    record: bool = False


class Failure(NamedTuple):
    """A schedule in which a promise was not kept: its seed, what, and in words."""

    seed: int
    kind: str
    why: str


class LockResult(NamedTuple):
    """What came of one combination, over all its schedules.

    Attributes:
        protocol, era, backend, bits, vcpus, patched, mutant: which.
        setting: of the first schedule.
        schedules: how many ran.
        failures: those that went wrong.
        first: the first schedule's outcome.
        instructions, indirect_calls: executed, in all schedules.
        ops: op → how often it was called.
        forms: op → what its sites became.
        calls: hypercalls by name.
        acquisitions, slow_paths, kicks, polls: in all schedules.
        waits: cycles from arriving to entering, sorted.
        preempted: virtual CPUs that lost their physical one; and while they held the lock.
        parts: cycles of virtual CPUs by state.
        final_state: digest of what the program came to; empty where it did not.
        seconds: wall clock.
        image: the guest.
        events, spans: what happened in the first schedule, where recorded.
        code: address of each instruction in the events → the instruction, as the text has it then.
    """

    protocol: str
    era: str
    backend: str
    bits: int
    vcpus: int
    patched: bool
    mutant: str | None
    setting: Setting
    schedules: int
    failures: tuple[Failure, ...]
    first: Outcome
    instructions: int
    indirect_calls: int
    ops: Mapping[str, int]
    forms: Mapping[str, str]
    calls: Mapping[str, int]
    acquisitions: int
    slow_paths: int
    kicks: int
    polls: int
    waits: tuple[int, ...]
    preempted: tuple[int, int]
    parts: Mapping[str, int]
    final_state: str
    seconds: float
    image: LockImage
    events: tuple[Event, ...]
    spans: tuple[Span, ...]
    code: Mapping[int, str]

    @property
    def stop(self) -> Stop:
        """Why the first schedule ended, or the first that went wrong."""
        if self.failures and self.first.ok:
            return Stop(self.failures[0].kind, 0, self.failures[0].why)
        return self.first.stop


#: What hypervisors call a kick and a sleep.
KICKS = ("KICK_CPU", "event_channel_op: send", "HvCallSendSyntheticClusterIpi")
POLLS = ("(halt)", "sched_op: poll", "(guest idle)")


def results(job: LockJob) -> Iterator[LockResult]:
    """Every combination, as it is done.

    Raises:
        RunError: a protocol, backend or mutant that there is not, or a setting without sense.
    """
    job.setting.check()
    for name in job.protocols:
        protocol = locks.protocol(name)
        mutants = (None, *protocol.mutants) if job.mutant == locks.ALL else (job.mutant,)
        for mutant, bits in product(mutants, job.bits):
            image = LockImage(protocol, bits, threshold=job.threshold, mutant=mutant)
            for backend, patched in product(job.backends or tuple(protocol.backends), job.patched):
                yield run(image, backend, job, patched=patched)


def run(image: LockImage, backend: str, job: LockJob, *, patched: bool) -> LockResult:
    """Runs a lock's guest below one backend."""
    began = time.perf_counter()
    recorder = Recorder() if job.record else None
    touches = image.mutant == "touch-after-release"
    machine = Machine(image, backend, job.vcpus, patched=patched, recorder=recorder, touches=touches)
    outcomes = []
    failures = []
    events: tuple[Event, ...] = ()
    spans: tuple[Span, ...] = ()
    for n in range(job.schedules):
        outcome = machine.run(job.setting._replace(seed=job.setting.seed + n))
        outcomes.append(outcome)
        if not outcome.ok:
            kind, why = (outcome.broken.kind, outcome.broken.why) if outcome.broken else outcome.stop[::2]
            failures.append(Failure(outcome.setting.seed, kind, why))
        if recorder is not None and n == 0:
            events, spans = tuple(recorder.events), tuple(recorder.spans)
    calls: Counter[str] = Counter()
    parts: Counter[str] = Counter()
    for outcome in outcomes:
        calls.update(outcome.calls)
        parts.update(outcome.parts)
    states = {outcome.final_state for outcome in outcomes if outcome.ok}
    return LockResult(
        protocol=image.protocol.name,
        era=image.era,
        backend=backend,
        bits=image.bits,
        vcpus=job.vcpus,
        patched=patched,
        mutant=image.mutant,
        setting=job.setting,
        schedules=job.schedules,
        failures=tuple(failures),
        first=outcomes[0],
        instructions=sum(o.instructions for o in outcomes),
        indirect_calls=machine.counts.indirect,
        ops=dict(sorted(machine.counts.ops.items())),
        forms=machine.forms(),
        calls=dict(sorted(calls.items())),
        acquisitions=sum(sum(o.acquisitions) for o in outcomes),
        slow_paths=machine.counts.slow,
        kicks=sum(calls[name] for name in KICKS),
        polls=sum(calls[name] for name in POLLS),
        waits=tuple(sorted(wait for o in outcomes for wait in o.waits)),
        preempted=(sum(o.preempted[0] for o in outcomes), sum(o.preempted[1] for o in outcomes)),
        parts=dict(parts),
        final_state=hashlib.sha256(repr(sorted(states)).encode()).hexdigest()[:32] if len(states) == 1 else "",
        seconds=time.perf_counter() - began,
        image=image,
        events=events,
        spans=spans,
        code={pc: machine.instruction(pc) for pc in {event.pc for event in events}},
    )


def differing(found: Sequence[LockResult]) -> list[str]:
    """What must not be: a promise that was not kept, or programs that came to different ends; empty if all is well.

    With a bug planted nothing is promised.
    """
    out = []
    states: dict[tuple[int, int], set[str]] = {}
    for result in found:
        if result.mutant is not None:
            continue
        what = f"{result.protocol}, {result.bits} bits, under {result.backend}"
        out += [f"{what}, seed {f.seed}: {f.why}" for f in result.failures[:3]]
        if not result.failures:
            states.setdefault((result.vcpus, result.setting.turns), set()).add(result.final_state)
    out += [
        f"programs of {vcpus} CPUs end in {len(ends)} states" for (vcpus, _), ends in states.items() if len(ends) > 1
    ]
    return out
