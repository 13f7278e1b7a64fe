"""Timer interrupts in the guests of locks: a handler takes a lock of its own, whatever its CPU waits for or holds."""

from __future__ import annotations

import pytest

from emulate.test_locks import TIGHT, image
from pvops.emulate.guest import locks
from pvops.emulate.smp.job import LockJob, run
from pvops.emulate.smp.machine import Machine
from pvops.emulate.smp.processors import Physical
from pvops.emulate.smp.record import Recorder
from pvops.emulate.smp.vcpu import IF

#: Interrupts as often as critical sections, but not to those who sleep: what a tick would repair stays.
TICKING = TIGHT._replace(slice=150, tick=150, turns=6)

#: Below Xen a waiter lets interrupts come before it polls, and a handler that waits too clears what its CPU noted and
#: was sent. Its later locks wait nestably (a856531951dc, "x86/xen: Make xen_qlock_wait() nestable").
NOT_NESTABLE = {("pv-ticket-3.12", "xen"), ("pv-ticket-4.0", "xen")}


@pytest.mark.parametrize("name", locks.NAMES)
def test_handlers_take_locks_wherever_they_come(name: str) -> None:
    for bits in (32, 64):
        for backend in locks.protocol(name).backends:
            job = LockJob(vcpus=4, setting=TICKING, schedules=3)
            result = run(image(name, bits), backend, job, patched=True)
            if (name, backend) not in NOT_NESTABLE:
                assert result.failures == ()
            assert {failure.kind for failure in result.failures} <= {"lost-kick"}
            # Each handler returns by the op, whose site is a jump that patching inlines or makes direct.
            assert result.ops["pv_cpu_ops.iret"] > 20
            assert result.forms["pv_cpu_ops.iret"] in (("jmp",) if backend == "xen" else ("inlined", "jmp"))
            assert result.calls.get("iret", 0) == (result.ops["pv_cpu_ops.iret"] if backend == "xen" else 0)


def test_a_handler_that_waits_undoes_what_its_cpu_waits_for_below_xen() -> None:
    machine = Machine(image("pv-ticket-3.12", threshold=4), "xen", 4)
    found = next(o for o in (machine.run(TICKING._replace(seed=s, ticket=0)) for s in range(1, 200)) if o.broken)
    assert found.broken is not None
    assert found.broken.kind == "lost-kick"
    assert machine.run(found.setting._replace(tick=0)).ok


def test_a_nested_wait_that_is_not_noted_is_a_lost_kick() -> None:
    """168d2f464ab9: the handler's wait left behind that its CPU spins on nothing."""
    machine = Machine(image("xen-byte-2.6.27", mutant="nested-interrupt-slot"), "xen", 4)
    assert all(machine.run(TICKING._replace(seed=seed, tick=0)).ok for seed in range(10))
    broken = next(o.broken for o in (machine.run(TICKING._replace(seed=seed)) for seed in range(200)) if o.broken)
    assert broken.kind == "lost-kick"


@pytest.mark.parametrize("name", ["pv-ticket-3.12", "pv-ticket-4.0"])
def test_a_tick_ends_a_poll_and_so_repairs_what_a_handler_undid(name: str) -> None:
    machine = Machine(image(name, threshold=4), "xen", 4)
    lost = [s for s in range(60) if machine.run(TICKING._replace(seed=s)).broken]
    assert lost
    repaired = [machine.run(TICKING._replace(seed=s, tick_sleepers=True)) for s in lost]
    assert all(outcome.ok for outcome in repaired)
    assert all(sum(outcome.parts.values()) == 4 * outcome.cycles for outcome in repaired)


def test_what_a_tick_ends_is_as_each_hypervisor_has_it() -> None:
    """KVM's halt only where interrupts are on; Xen's poll and Hyper-V's idle always."""
    for backend, names in (("kvm", ("pv-ticket-4.0",)), ("hyperv", ("pv-ticket-4.0", "pv-ticket-sym"))):
        for name in names:
            recorder = Recorder()
            machine = Machine(image(name), backend, 4, recorder=recorder)
            assert machine.run(TICKING._replace(tick=40, tick_sleepers=True)).ok
            assert any(event.what == "by its timer" for event in recorder.events)
    # This project's waiters sleep with interrupts off, which no tick ends below KVM.
    recorder = Recorder()
    machine = Machine(image("pv-ticket-sym"), "kvm", 4, recorder=recorder)
    assert machine.run(TICKING._replace(tick=40, tick_sleepers=True)).ok
    assert not any(event.what == "by its timer" for event in recorder.events)


@pytest.mark.parametrize("bits", [32, 64])
def test_ticks_come_at_any_instruction_of_a_hypercall(bits: int) -> None:
    """One that waited until events are unmasked comes behind the ``syscall``, which does not execute again."""
    for tick in (1, 2, 3):
        machine = Machine(image("pv-ticket-sym", bits), "xen", 4)
        outcome = machine.run(TICKING._replace(tick=tick, turns=2))
        assert outcome.ok, outcome.stop
        assert machine.ticks.count > 20


@pytest.mark.parametrize("bits", [32, 64])
def test_a_tick_comes_at_the_first_instruction_of_all(bits: int) -> None:
    """Before it there is no memory, where ``sti`` may stand before a ``hlt``."""
    machine = Machine(image("pv-ticket-sym", bits), "native", 1)
    assert machine.run(TICKING).ok
    cpu = machine.cpus[0]
    cpu.set("pc", cpu.memory.address)
    cpu.set("flags", IF)
    assert machine.below.interrupt(cpu)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("backend", ["native", "kvm", "xen"])
def test_interrupts_that_leave_no_time_for_an_instruction_are_no_progress(bits: int, backend: str) -> None:
    machine = Machine(image("pv-ticket-3.12", bits), backend, 2)
    outcome = machine.run(TICKING._replace(tick=1, quantum=1))
    assert (outcome.stop.kind, outcome.broken) == ("livelock", None)
    assert outcome.stop.why == "timer interrupts leave no CPU time for an instruction: --tick 1 is too often"
    assert outcome.instructions < 20_000
    # Quanta of other lengths end behind the handler.
    assert machine.run(TICKING._replace(tick=1, quantum=6, turns=2)).stop.kind == "done"


def test_a_cpu_that_executes_one_instruction_between_two_interrupts_gets_on() -> None:
    outcome = Machine(image("pv-ticket-3.12"), "kvm", 2).run(TICKING._replace(tick=3, quantum=1, turns=4))
    assert outcome.ok


class Hurt(Machine):
    """At some time the head of its lock is another than anybody has a ticket for: nobody gets it any more."""

    hurt = False

    def _turn(self, p: Physical) -> None:
        super()._turn(p)
        if not self.hurt and self.executed > 300:
            self.hurt = True
            lock = self.image.address("the_lock")
            self.memory.set_number(lock, 1, self.memory.number(lock, 1) + 100 & 0xFF)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("backend", ["native", "xen"])
@pytest.mark.parametrize(("tick", "quantum"), [(0, 6), (60, 6), (150, 6), (150, 100)])
def test_a_hang_is_told_soon_though_handlers_go_on(bits: int, backend: str, tick: int, quantum: int) -> None:
    machine = Hurt(image("ticket-2.6.25", bits), backend, 3)
    outcome = machine.run(TICKING._replace(tick=tick, quantum=quantum, most=200_000))
    assert outcome.stop.kind == "hang"
    assert outcome.stop.why == "nobody owns the lock, and CPUs 0, 1, 2 wait for ever"
    assert outcome.broken
    assert outcome.broken.kind == "lost-kick"
    assert bool(machine.ticks.count) is bool(tick)


def test_who_spins_behind_a_sleeper_whom_nobody_kicks_waits_for_ever() -> None:
    machine = Machine(image("ticket-callout-2010", 32, 3, "no-look-after-publish"), "xen", 4)
    shape = TICKING._replace(seed=8, slice=30, tick=60, tick_sleepers=True, turns=8, most=100_000)
    outcome = machine.run(shape)
    assert (outcome.stop.kind, outcome.broken and outcome.broken.kind) == ("hang", "lost-kick")
