"""Locks on several virtual CPUs: what each protocol promises holds over schedules, and known bugs break it."""

from __future__ import annotations

from functools import cache

import pytest

from pvops.emulate.guest import locks
from pvops.emulate.guest.locks.kernel import LockImage
from pvops.emulate.smp.job import LockJob, LockResult, differing, results, run
from pvops.emulate.smp.machine import Machine
from pvops.emulate.smp.setting import Outcome, Setting
from pvops.errors import RunError

#: Short slices on too few physical CPUs, tickets that wrap, and waiters that soon sleep.
TIGHT = Setting(pcpus=2, slice=120, turns=3, think=2, hold=2, switch=5, exit=5, kick=5, ticket=254)

#: Two kinds of schedules in which bugs show: virtual CPUs lose their physical one all the time; or each has one, and
#: what one does meets what another does anywhere.
TORN = TIGHT._replace(slice=30)
SIDE_BY_SIDE = TIGHT._replace(slice=1000, quantum=12, pcpus=3)


@cache
def image(name: str, bits: int = 32, threshold: int = 3, mutant: str | None = None) -> LockImage:
    """A guest, assembled once."""
    return LockImage(locks.protocol(name), bits, threshold=threshold, mutant=mutant)


def ran(name: str, backend: str, schedules: int, *, bits: int = 32) -> LockResult:
    """Schedules of one lock."""
    job = LockJob(vcpus=4, setting=TIGHT, schedules=schedules)
    return run(image(name, bits), backend, job, patched=True)


@pytest.mark.parametrize("name", locks.NAMES)
def test_every_schedule_keeps_the_promises(name: str) -> None:
    for bits in (32, 64):
        for backend in locks.protocol(name).backends:
            result = ran(name, backend, 12, bits=bits)
            assert result.failures == ()
            assert result.acquisitions == 12 * 4 * TIGHT.turns
            assert (result.slow_paths > 0) == (result.polls > 0) == locks.protocol(name).blocks(backend)
            assert result.kicks <= result.slow_paths or name == "xen-byte-2.6.27", "which kicks all who spin"


def test_a_seed_decides_the_schedule() -> None:
    machine = Machine(image("pv-ticket-4.0"), "kvm", 4)
    first, again, other = (machine.run(TIGHT._replace(seed=seed)) for seed in (5, 5, 6))
    assert first == again
    assert first.parts != other.parts
    assert first.final_state == other.final_state


def test_all_ends_in_one_state() -> None:
    found = list(results(LockJob(vcpus=3, setting=TIGHT)))
    assert differing(found) == []
    assert len({r.final_state for r in found}) == 1
    assert {(r.protocol, r.backend, r.bits, r.patched) for r in found} >= {
        (name, backend, bits, patched)
        for name in locks.NAMES
        for backend in locks.protocol(name).backends
        for bits in (32, 64)
        for patched in (False, True)
    }


def test_cycles_of_virtual_cpus_add_up() -> None:
    for scheduler in ("round-robin", "credit"):
        outcome: Outcome = Machine(image("pv-ticket-3.12"), "xen", 4).run(TIGHT._replace(scheduler=scheduler))
        assert sum(outcome.parts.values()) == 4 * outcome.cycles
        assert min(outcome.parts.values()) > 0


#: But for the one that needs interrupts, and the one that needs store buffers.
BUGS = [
    (n, m)
    for n in locks.NAMES
    for m in locks.protocol(n).mutants
    if m not in ("nested-interrupt-slot", "missing-fence")
]


@pytest.mark.parametrize(("name", "mutant"), BUGS)
def test_a_planted_bug_is_a_verdict(name: str, mutant: str) -> None:
    backend = next(b for b in ("xen", "native") if locks.protocol(name).blocks(b) or mutant == "ticket-wrap")
    machine = Machine(image(name, mutant=mutant), backend, 3, touches=mutant == "touch-after-release")
    settings = ((TORN if seed % 2 else SIDE_BY_SIDE)._replace(seed=seed) for seed in range(300))
    broken = next(outcome.broken for outcome in map(machine.run, settings) if outcome.broken)
    assert broken.kind == ("touch-after-release" if mutant == "touch-after-release" else "lost-kick")


@pytest.mark.parametrize("scheduler", ["round-robin", "credit"])
@pytest.mark.parametrize(("pcpus", "slice_", "quantum"), [(1, 1, 1), (1, 3, 1), (9, 1 << 30, 500)])
def test_slices_of_any_length_end_the_same(scheduler: str, pcpus: int, slice_: int, quantum: int) -> None:
    """With slices of an instruction nearly all cycles go into switches, and nothing hangs."""
    setting = Setting(pcpus=pcpus, slice=slice_, quantum=quantum, scheduler=scheduler, turns=2)
    for name, backend in (("ticket-2.6.25", "native"), ("pv-ticket-4.0", "xen")):
        machine = Machine(image(name), backend, 4)
        for seed in (0, (1 << 64) - 1):
            outcome = machine.run(setting._replace(seed=seed))
            assert outcome.ok, outcome
            assert sum(outcome.parts.values()) == 4 * outcome.cycles


def test_patching_leaves_no_call_in_the_fast_path() -> None:
    for bits in (32, 64):
        result = ran("pv-ticket-4.0", "native", 1, bits=bits)
        assert result.forms["pv_lock_ops.lock_spinning"] == "nop"
        assert result.indirect_calls == 0
        # The site lets go of what a callee-save op may change, and apply_paravirt() of 3.12 takes every function to
        # change all that C may: so below KVM the call stays indirect (repaired by 5800dc5c19f3).
        assert ran("pv-ticket-4.0", "kvm", 1, bits=bits).forms["pv_lock_ops.lock_spinning"] == "left"


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(RunError, match=r"no lock pv-ticket-4\.1 .did you mean pv-ticket-4\.0"):
        locks.protocol("pv-ticket-4.1")
    with pytest.raises(RunError, match="has no mutant"):
        image("ticket-2.6.25", mutant="wrong-hand-clears")
    with pytest.raises(RunError, match="virtual CPUs: 1 to 32"):
        Machine(image("ticket-2.6.25"), "native", 33)
    with pytest.raises(RunError, match="virtual CPUs: 1 to 32"):
        Machine(image("pv-ticket-4.0"), "kvm", 1 << 60)
    with pytest.raises(RunError, match="no backend lguest"):
        Machine(image("ticket-2.6.25"), "lguest", 2)
    with pytest.raises(RunError, match="more than 1,024"):
        Machine(image("ticket-2.6.25"), "native", 2).run(TIGHT._replace(pcpus=1025))
    with pytest.raises(RunError, match="pcpus"):
        Machine(image("ticket-2.6.25"), "native", 2).run(TIGHT._replace(pcpus=0))
