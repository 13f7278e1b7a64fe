"""Below Hyper-V: what is offered decides how waiters wait, and an interrupt ends a sleep though it is masked."""

from __future__ import annotations

import pytest

from emulate.test_locks import TIGHT, image
from pvops.emulate.abi import hyperv as abi
from pvops.emulate.guest import locks
from pvops.emulate.smp.hyperv import Hyperv
from pvops.emulate.smp.job import LockJob, run
from pvops.emulate.smp.machine import Machine

OFFERED = [name for name in locks.NAMES if "hyperv" in locks.protocol(name).backends]


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("name", OFFERED)
def test_waiters_sleep_where_both_are_offered_and_else_say_that_they_spin(name: str, bits: int) -> None:
    job = LockJob(vcpus=4, setting=TIGHT, schedules=8)
    both, neither = (run(image(name, bits), backend, job, patched=True) for backend in ("hyperv", "hyperv-spin"))
    assert both.failures == neither.failures == ()
    assert both.final_state == neither.final_state
    assert both.polls == both.calls["(guest idle)"] > 0
    assert both.kicks == both.calls["HvCallSendSyntheticClusterIpi"] > 0
    assert both.slow_paths >= both.polls
    assert neither.slow_paths == neither.kicks == neither.polls == 0
    assert set(neither.calls) == {"HvCallNotifyLongSpinWait"}
    # A kick is an interrupt: it has a handler, which is done with it.
    assert 0 < both.calls["(end of interrupt)"] <= both.kicks
    assert both.ops["pv_cpu_ops.iret"] == both.calls["(end of interrupt)"]


@pytest.mark.parametrize(
    ("features", "hints"), [(abi.GUEST_IDLE_AVAILABLE, 0), (0, abi.CLUSTER_IPI_RECOMMENDED), (0, 0)]
)
def test_either_alone_is_not_enough(monkeypatch: pytest.MonkeyPatch, features: int, hints: int) -> None:
    """hv_init_spinlocks() wants both."""
    monkeypatch.setattr(Hyperv, "features", features)
    monkeypatch.setattr(Hyperv, "hints", hints)
    machine = Machine(image("pv-ticket-4.0"), "hyperv", 4)
    outcomes = [machine.run(TIGHT._replace(seed=seed)) for seed in range(4)]
    assert all(outcome.ok and outcome.blocked == 0 for outcome in outcomes)
    assert all(set(outcome.calls) <= {"HvCallNotifyLongSpinWait"} for outcome in outcomes)


def test_a_notice_is_better_than_none_and_sleeping_is_better() -> None:
    """Eight virtual CPUs on two: a waiter that only spins keeps the owner from running."""
    setting = TIGHT._replace(pcpus=2, slice=1000, turns=20, think=20, hold=20)
    machines = [Machine(image("pv-ticket-4.0"), backend, 8) for backend in ("hyperv", "hyperv-spin", "native")]
    sleeps, tells, spins = (machine.run(setting) for machine in machines)
    assert sleeps.ok
    assert tells.ok
    assert spins.ok
    assert sleeps.cycles * 3 < tells.cycles
    assert tells.cycles * 4 < spins.cycles * 3
