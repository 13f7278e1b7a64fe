"""What the guests' machine code does is a run of the checker's model, step by step and word by word of memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from emulate.test_locks import SIDE_BY_SIDE, TORN, image
from pvops.emulate.guest import locks
from pvops.emulate.guest.locks.steps import ARRIVE, DONE, ENTER, LEAVE
from pvops.emulate.smp.machine import Machine
from pvops.emulate.smp.record import DRAIN, Recorder
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
    name: str, backend: str, seeds: int, *, bits: int = 32, mutant: str | None = None, buffers: bool = False
) -> Iterator[tuple[Outcome, Run]]:
    """Schedules of three CPUs, and what each step was."""
    # Tickets of a byte wrap once in 256 turns, those of the model once in eight.
    ticket = 248 if mutant == "ticket-wrap" else 0
    told = ("step", "drain")
    recorder = Recorder()
    touches = mutant == "touch-after-release"
    machine = Machine(image(name, bits, mutant=mutant), backend, 3, recorder=recorder, touches=touches)
    for seed in range(seeds):
        setting = (TORN if seed % 2 else SIDE_BY_SIDE)._replace(seed=seed, ticket=ticket, buffers=buffers)
        outcome = machine.run(setting)
        yield outcome, [(e.vcpu, e.what, dict(e.variables)) for e in recorder.events if e.kind in told]


def followed(name: str, run: Run, mutant: str | None = None, *, buffers: bool = False) -> str | None:
    """What a run of the guest breaks in the model."""
    slots = locks.protocol(name).slots(mutant)
    return follow(name, mutant, 3, run, slots=slots, buffers=buffers)


@pytest.mark.parametrize(("name", "backend"), MODELLED)
def test_each_schedule_is_a_run_of_the_model(name: str, backend: str) -> None:
    for bits in (32, 64):
        for outcome, run in traces(name, backend, 10, bits=bits):
            assert outcome.ok
            assert len(run) > 3 * 4 * outcome.setting.turns
            assert followed(name, run) is None


@pytest.mark.parametrize(("name", "backend"), MODELLED)
def test_each_schedule_with_store_buffers_is_a_run_of_the_model_with_them(name: str, backend: str) -> None:
    drains = 0
    for outcome, run in traces(name, backend, 10, buffers=True):
        assert outcome.ok
        assert followed(name, run, buffers=True) is None
        drains += sum(what == DRAIN for _, what, _ in run)
    # What the byte lock and the plain lock store to release them waits in the buffer.
    assert drains > 0 or name in ("pv-ticket-4.0", "pv-ticket-sym")


#: But for what needs interrupts, below.
ELSEWHERE = ("nested-interrupt-slot",)
BUGS = [
    (name, mutant)
    for name in dict.fromkeys(name for name, _ in MODELLED)
    for mutant in locks.protocol(name).mutants
    if mutant not in ELSEWHERE
]


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize(("name", "mutant"), BUGS)
def test_a_planted_bug_ends_where_the_checker_says(name: str, mutant: str, bits: int) -> None:
    [predicted] = check(name, mutant)
    buffers = mutant == "missing-fence"
    backend = "xen" if locks.protocol(name).blocks("xen") else "native"
    for outcome, run in traces(name, backend, 400, bits=bits, mutant=mutant, buffers=buffers):
        found = followed(name, run, mutant, buffers=buffers)
        assert found == (outcome.broken.kind if outcome.broken else None)
        if outcome.broken is not None:
            assert outcome.broken.kind == predicted.violation
            return
    pytest.fail("the bug did not show")


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("mutant", [None, "nested-interrupt-slot"])
def test_a_run_with_handlers_that_take_locks_is_a_run_of_the_model(mutant: str | None, bits: int) -> None:
    name = "xen-byte-2.6.27"
    [predicted] = check(name, "nested-interrupt-slot")
    recorder = Recorder()
    machine = Machine(image(name, bits, mutant=mutant), "xen", 3, recorder=recorder)
    for seed in range(100 if mutant else 30):
        outcome = machine.run((TORN if seed % 2 else SIDE_BY_SIDE)._replace(seed=seed, tick=150, turns=6))
        events = [e for e in recorder.events if e.kind == "step" or (e.kind == "irq" and e.what not in MARKS)]
        assert any(e.what == "timer interrupt" for e in events)
        run = [(e.vcpu, e.what, dict(e.variables)) for e in events]
        found = follow(name, mutant, 3, run, scenario="interrupts-anywhere")
        assert found == (outcome.broken.kind if outcome.broken else None)
        if outcome.broken is not None:
            assert mutant is not None
            assert outcome.broken.kind == predicted.violation == "lost-kick"
            return
    assert mutant is None, "the bug did not show"


#: What events of a handler's lock are, besides lines.
MARKS = (ARRIVE, ENTER, LEAVE, DONE)


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
