"""What the guests' machine code does is a run of the checker's model, step by step and word by word of memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from emulate.test_locks import SIDE_BY_SIDE, TORN, image
from pvops.emulate.guest import locks
from pvops.emulate.smp.machine import Machine
from pvops.emulate.smp.record import Recorder
from pvops.emulate.smp.setting import Outcome
from pvops.errors import LockError
from pvops.lock.check import check, follow, protocols

Run = list[tuple[int, str, dict[str, int]]]

#: Those that the checker has too, with a backend below which they are what it has.
MODELLED = [
    (name, backend)
    for name in locks.NAMES
    if name in protocols()
    for backend in locks.protocol(name).backends
    if locks.protocol(name).blocks(backend) or name == "ticket-2.6.25"
]


def traces(
    name: str, backend: str, seeds: int, *, bits: int = 32, mutant: str | None = None
) -> Iterator[tuple[Outcome, Run]]:
    """Schedules of three CPUs, and what each step was."""
    recorder = Recorder()
    touches = mutant == "touch-after-release"
    machine = Machine(image(name, bits, mutant=mutant), backend, 3, recorder=recorder, touches=touches)
    for seed in range(seeds):
        outcome = machine.run((TORN if seed % 2 else SIDE_BY_SIDE)._replace(seed=seed, ticket=0))
        yield outcome, [(e.vcpu, e.what, dict(e.variables)) for e in recorder.events if e.kind == "step"]


def followed(name: str, run: Run, mutant: str | None = None) -> str | None:
    """What a run of the guest breaks in the model."""
    slots = locks.protocol(name).slots(mutant)
    return follow(name, mutant, 3, run, slots=slots)


@pytest.mark.parametrize(("name", "backend"), MODELLED)
def test_each_schedule_is_a_run_of_the_model(name: str, backend: str) -> None:
    for bits in (32, 64):
        for outcome, run in traces(name, backend, 10, bits=bits):
            assert outcome.ok
            assert len(run) > 3 * 4 * outcome.setting.turns
            assert followed(name, run) is None


#: But for a carry at one ticket only, which in the model is another; what needs interrupts; and a wake-up of several
#: CPUs one after the other, which in the model is one step, and whose bug lets another come between.
ELSEWHERE = ("ticket-wrap", "nested-interrupt-slot", "wake-before-clear")
BUGS = [(n, m) for n, b in MODELLED if b == "xen" for m in locks.protocol(n).mutants if m not in ELSEWHERE]


@pytest.mark.parametrize(("name", "mutant"), BUGS)
def test_a_planted_bug_ends_where_the_checker_says(name: str, mutant: str) -> None:
    [predicted] = check(name, mutant)
    for outcome, run in traces(name, "xen", 300, mutant=mutant):
        assert followed(name, run, mutant) == (outcome.broken.kind if outcome.broken else None)
        if outcome.broken is not None:
            assert outcome.broken.kind == predicted.violation
            return
    pytest.fail("the bug did not show")


def test_a_run_that_is_none_of_the_model_is_refused() -> None:
    _, run = next(traces("pv-ticket-4.0", "kvm", 1))
    for n in (len(run) // 3, len(run) // 2):
        with pytest.raises(LockError, match=f"row {n}"):
            followed("pv-ticket-4.0", [*run[:n], (run[n][0], "w.want = my", {}), *run[n:]])
        thread, text, held = run[n]
        if held:
            with pytest.raises(LockError, match="in the model"):
                followed("pv-ticket-4.0", [*run[:n], (thread, text, {**held, "tail": held["tail"] + 1}), *run[n + 1 :]])
    _, other = next(traces("pv-ticket-4.0", "kvm", 1, mutant="wrong-hand-clears"))
    with pytest.raises(LockError):
        followed("pv-ticket-3.12", other)
