"""What executes costs what the simulator says, and too few physical CPUs do to each lock what its waiters let them."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from emulate.test_locks import image
from pvops.emulate.guest import locks
from pvops.emulate.smp.machine import Machine
from pvops.emulate.smp.path import fast_path
from pvops.emulate.smp.setting import Outcome
from pvops.lock.simulate import simulate

#: The machine, the loops of the guest and the simulator's case are those of docs/locks-on-virtual-cpus.md.
MADE = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "make_locks_on_virtual_cpus.py"))
SETTING = MADE["SETTING"]._replace(pcpus=4)


def ran(name: str, vcpus: int, turns: int) -> Outcome:
    """One lock below KVM on four physical CPUs."""
    return Machine(image(name, 64, MADE["THRESHOLD"]), "kvm", vcpus).run(SETTING._replace(turns=turns))


def rate(outcome: Outcome) -> float:
    """Acquisitions in 1,000 cycles."""
    return 1000 * sum(outcome.acquisitions) / outcome.cycles


@pytest.mark.parametrize("name", ["pv-ticket-3.12", "pv-ticket-4.0"])
def test_kicks_and_sleeps_are_as_many_as_the_simulator_has(name: str) -> None:
    outcome = ran(name, 8, 150)
    assert outcome.ok
    other = simulate(MADE["simulator_case"](name, 8, outcome.cycles))
    acquired, simulated = sum(outcome.acquisitions), sum(other.acquisitions)
    assert outcome.calls["KICK_CPU"] / acquired == pytest.approx(other.counters["kicks"] / simulated, rel=0.15)
    assert outcome.blocked / acquired == pytest.approx(other.counters["blocks"] / simulated, rel=0.15)
    assert acquired == pytest.approx(simulated, rel=0.25)


def test_the_plain_lock_collapses_and_those_whose_waiters_sleep_do_not() -> None:
    asleep = [name for name in locks.NAMES if locks.protocol(name).blocks("kvm")]
    left = {name: rate(ran(name, 8, 40)) / rate(ran(name, 4, 40)) for name in asleep}
    assert len(left) == 4
    assert min(left.values()) > 0.2
    assert rate(ran("ticket-2.6.25", 8, 20)) / rate(ran("ticket-2.6.25", 4, 20)) < 0.1


@pytest.mark.parametrize("bits", [32, 64])
def test_the_fast_path_of_a_pv_lock_has_no_call(bits: int) -> None:
    for name in ("pv-ticket-3.12", "pv-ticket-4.0", "pv-ticket-sym"):
        for backend in ("native", "kvm", "xen"):
            path = fast_path(Machine(image(name, bits), backend, 1))
            assert [line for line in path if "call" in line] == []
            assert sum("xadd" in line for line in path) >= 1
    # A whole lock that is an op is called, and a callout of the release is a call.
    for name, backend in (("xen-byte-2.6.27", "native"), ("ticket-callout-2010", "kvm")):
        assert any("call" in line for line in fast_path(Machine(image(name, bits), backend, 1)))
    assert len(fast_path(Machine(image("ticket-callout-2010", bits), "native", 1))) == 8
