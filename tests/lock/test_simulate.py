"""Simulated locks: closed forms, conservation, the collapse and its cures, and parameters that make no sense."""

from __future__ import annotations

import itertools
import math
import pickle
import random
import signal
import sys
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from lock.interrupting import interruptible
from pvops.errors import LockError
from pvops.lock.simulate import (
    PARTS,
    PROTOCOLS,
    SCHEDULERS,
    Case,
    Distribution,
    Result,
    around_preempted_holder,
    simulate,
)

TAKES_IN_ORDER = ("ticket-2.6.25", "pv-ticket-3.12", "pv-ticket-4.0", "pv-ticket")


def constant(mean_us: float) -> Distribution:
    return Distribution("constant", mean_us)


def exponential(mean_us: float) -> Distribution:
    return Distribution("exponential", mean_us)


# Closed forms


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize(("think", "hold"), [(20, 0.5), (9, 1), (0.7, 0.3), (0, 2), (3, 0)])
def test_one_virtual_cpu_takes_the_lock_once_each_think_and_hold(
    protocol: str, scheduler: str, think: float, hold: float
) -> None:
    result = simulate(
        Case(protocol, vcpus=1, pcpus=1, scheduler=scheduler, think=constant(think), hold=constant(hold), duration=0.1)
    )
    assert result.acquisitions == [math.floor(100_000 / Fraction(str(think + hold)))]
    assert result.useful == result.duration == 0.1
    assert (result.max_us, result.fairness) == (0.0, 1.0)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_with_a_lock_each_nobody_waits(protocol: str) -> None:
    """One virtual CPU for each virtual machine, so that each has its lock for itself."""
    result = simulate(Case(protocol, vcpus=5, pcpus=5, vms=5, think=exponential(10), hold=exponential(1), duration=0.5))
    assert (result.useful, result.spin, result.blocked, result.max_us) == (2.5, 0.0, 0.0, 0.0)
    assert sum(result.acquisitions) == pytest.approx(2.5 / 11e-6, rel=0.01)


def machine_repair(customers: int, think: float, hold: float) -> float:
    """Throughput of M/M/1//N: `customers` think for an exponential time, and one server has an exponential one."""
    weights = [1.0]
    for waiting in range(customers):
        weights.append(weights[-1] * (customers - waiting) * hold / think)
    return (1 - weights[0] / sum(weights)) / hold


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("vcpus", "think", "hold"), [(2, 5, 5), (4, 20, 2), (8, 20, 0.5), (8, 10, 3)])
def test_without_overcommitment_a_lock_is_a_queue_with_one_server(
    protocol: str, vcpus: int, think: float, hold: float
) -> None:
    case = Case(protocol, threshold_us=None, vcpus=vcpus, pcpus=8, think=exponential(think), hold=exponential(hold))
    result = simulate(case)
    assert result.throughput == pytest.approx(machine_repair(vcpus, think, hold) * 1e6, rel=0.01)
    assert result.useful == pytest.approx(result.throughput * (think + hold) / 1e6, rel=0.01)
    assert result.idle == result.blocked == result.overhead == 0


@pytest.mark.parametrize("protocol", TAKES_IN_ORDER)
def test_a_saturated_lock_is_held_all_the_time(protocol: str) -> None:
    case = Case(protocol, threshold_us=None, vcpus=6, pcpus=6, think=constant(1), hold=constant(2), duration=0.1)
    result = simulate(case)
    assert sum(result.acquisitions) == pytest.approx(0.1 / 2e-6, abs=6)
    assert max(result.acquisitions) - min(result.acquisitions) <= 1
    assert result.max_us == 5 * 2  # the last of the first round; later each waits for a round less think and hold
    assert result.p50_us == pytest.approx(9, rel=1 / 64)


def test_a_convoy_hands_over_once_each_kick_switch_and_hold() -> None:
    """Who blocks at once is kicked for every acquisition, and kick, switch and hold follow one upon the other."""
    case = Case(
        "pv-ticket", threshold_us=0.0, vcpus=8, pcpus=8, think=constant(3), hold=constant(0.5), kick_us=5, switch_us=1.5
    )
    assert simulate(case).throughput == pytest.approx(1 / 7e-6, rel=0.001)


@pytest.mark.parametrize(("vcpus", "pcpus"), [(4, 2), (7, 3), (16, 8)])
def test_without_contention_processors_are_shared_and_switches_are_what_is_lost(vcpus: int, pcpus: int) -> None:
    case = Case("pv-ticket", vcpus=vcpus, pcpus=pcpus, vms=vcpus, scheduler="round-robin", slice_us=1000, switch_us=10)
    result = simulate(case)
    assert result.useful + result.overhead == pytest.approx(pcpus)
    assert result.overhead == pytest.approx(pcpus * 10 / 1010, rel=0.01)
    assert result.idle == pytest.approx(vcpus - pcpus)
    assert result.fairness == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("scheduler", ["round-robin", "credit"])
def test_interrupts_come_once_each_interval_and_hold(scheduler: str) -> None:
    case = Case("pv-ticket", vcpus=1, pcpus=1, scheduler=scheduler, think=constant(5), hold=constant(1))
    result = simulate(replace(case, irq_interval=constant(90), irq_hold=constant(10)))
    assert result.counters["interrupts"] == 10_000
    assert result.acquisitions == pytest.approx([0.9e6 / 6], abs=2)


def test_pause_loop_exits_come_once_each_window_and_exit() -> None:
    """One holds for ever, the other spins, exits, and finds nobody to yield to."""
    case = Case(
        "ticket-2.6.25", vcpus=2, pcpus=2, think=constant(0), hold=constant(1e9), ple_us=9, exit_us=1, duration=0.01
    )
    result = simulate(case)
    assert result.counters["pause_loop_exits"] == 1000
    assert (result.spin, result.overhead) == pytest.approx((0.009, 0.001), rel=1e-12)
    assert result.max_us == 10_000  # a wait that had not ended


# Conservation and determinism


def random_case(number: int) -> Case:
    rng = random.Random(number)
    vms = rng.choice([1, 2, 3])
    return Case(
        rng.choice(PROTOCOLS),
        vcpus=vms * rng.randint(1, 12),
        pcpus=rng.randint(1, 12),
        vms=vms,
        locks=rng.choice([1, 3, 64]),
        scheduler=rng.choice(SCHEDULERS),
        seed=number,
        duration=rng.uniform(1e-4, 0.05),
        slice_us=rng.uniform(10, 6000),
        ple_us=rng.choice([None, 2.0]),
        irq_interval=rng.choice([None, exponential(50)]),
    )


@pytest.mark.parametrize("number", range(60))
def test_time_is_conserved_exactly(number: int) -> None:
    result = simulate(random_case(number))
    case, parts = result.case, [getattr(result, part) for part in PARTS]
    for order in itertools.permutations(parts):
        assert sum(order) == case.vcpus * result.duration
    assert math.fsum(parts) == case.vcpus * result.duration
    ps = result.picoseconds
    assert sum(ps[part] for part in PARTS) == ps["total"] == case.vcpus * ps["duration"]
    assert ps["duration"] == round(Fraction(case.duration) * 10**12)
    for part in PARTS:
        assert getattr(result, part) == pytest.approx(ps[part] / 1e12, rel=1e-12, abs=1e-14)
    assert result.busy <= case.pcpus * result.duration * (1 + 1e-12)


@pytest.mark.parametrize("number", range(10))
def test_the_seed_decides_everything(number: int) -> None:
    case = random_case(number)
    results = [simulate(case), simulate(case), simulate(replace(case, seed=case.seed + 1000))]
    rows = [{**result.to_dict(), "events_per_second": None, "seed": None} for result in results]
    assert rows[0] == rows[1] != rows[2]


def test_known_numbers() -> None:
    """The stream of random numbers, and the order of draws, are part of what is documented."""
    result = simulate(Case("pv-hybrid", vcpus=12, pcpus=4, seed=2026, duration=0.25))
    again = (sum(result.acquisitions), result.events, result.picoseconds["spin"])
    assert again == KNOWN


KNOWN = (46_206, 104_154, 27_771_530_636)


def test_results_travel_between_processes() -> None:
    result = simulate(Case("pv-ticket", duration=0.01))
    assert pickle.loads(pickle.dumps(result)) == result


# What it is for


def at(times: int, protocol: str, **more: Any) -> Result:
    return simulate(Case(protocol, vcpus=8 * times, pcpus=8, **more))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("vcpus", [2, 5, 8])
def test_nothing_collapses_while_every_virtual_cpu_has_a_physical_one(protocol: str, vcpus: int) -> None:
    result = simulate(Case(protocol, vcpus=vcpus, pcpus=8, threshold_us=50.0))
    assert result.throughput == pytest.approx(machine_repair(vcpus, 20, 0.5) * 1e6, rel=0.01)
    assert result.counters["preemptions"] == 0


def test_the_plain_ticket_lock_collapses_at_twice() -> None:
    one, two = at(1, "ticket-2.6.25"), at(2, "ticket-2.6.25", duration=4.0)
    assert two.throughput < 0.01 * one.throughput
    assert two.spinning > 0.99
    assert two.p999_us is not None
    assert two.p999_us > 10_000


def test_blocking_brings_it_back_and_the_threshold_trades() -> None:
    found = {t: at(2, "pv-ticket", threshold_us=t) for t in (10.0, 100.0, 800.0)}
    plain = at(2, "ticket-2.6.25")
    assert found[10.0].throughput > 2 * found[100.0].throughput > 4 * found[800.0].throughput
    assert found[800.0].throughput > 2 * plain.throughput
    early, patient = at(1, "pv-ticket", threshold_us=0.5), at(1, "pv-ticket", threshold_us=10.0)
    assert early.throughput < 0.5 * patient.throughput, "too short a threshold makes a convoy out of nothing"


def test_stealing_is_faster_and_less_fair() -> None:
    fifo, steal, any_ = (at(4, protocol) for protocol in ("pv-ticket", "pv-hybrid", "xen-byte-2.6.27"))
    assert steal.throughput > 2 * fifo.throughput
    assert fifo.max_us < steal.max_us < any_.max_us


def test_a_holder_that_lost_its_cpu_holds_up_a_lock_only_until_others_block() -> None:
    """Both holders are back when a slice ends, or when enough waiters have blocked."""
    plain, blocking = (around_preempted_holder(Case(p)) for p in ("ticket-2.6.25", "pv-ticket"))

    def away(result: Result) -> int:
        found = result.preempted
        assert found is not None
        back = [s.start for s in result.spans if s.vcpu == found.vcpu and s.pcpu is not None and s.start > found.at]
        return min(back) - found.at

    assert away(plain) > 5e9
    assert away(blocking) < 0.1e9


def test_gangs_spare_the_plain_lock() -> None:
    shared = {s: at(2, "ticket-2.6.25", vms=2, scheduler=s).throughput for s in SCHEDULERS}
    assert shared["gang"] > 10 * shared["credit"]
    assert shared["gang"] == pytest.approx(at(1, "ticket-2.6.25").throughput, rel=0.01)


def test_the_paravirtual_ticket_locks_differ_in_nothing_that_takes_time() -> None:
    rows = [
        {**at(2, p, threshold_us=20.0).to_dict(), "protocol": None, "events_per_second": None}
        for p in ("pv-ticket-3.12", "pv-ticket-4.0", "pv-ticket")
    ]
    assert rows[0] == rows[1] == rows[2]


# Parameters


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("protocol", "mcs"),
        ("scheduler", "cfs"),
        ("vcpus", 0),
        ("vcpus", -3),
        ("vcpus", 2**40),
        ("vcpus", 2**80),
        ("vcpus", 2.5),
        ("vcpus", True),
        ("pcpus", 0),
        ("pcpus", -1),
        ("locks", 0),
        ("vms", 0),
        ("vms", 3),
        ("vms", 17),
        ("seed", -1),
        ("seed", 2**64),
        ("duration", 0.0),
        ("duration", -1.0),
        ("duration", math.nan),
        ("duration", math.inf),
        ("duration", 1e300),
        ("duration", 10**400),
        ("threshold_us", -1.0),
        ("threshold_us", math.nan),
        ("threshold_us", math.inf),
        ("threshold_us", 1e30),
        ("threshold_us", "10"),
        ("think", constant(-1)),
        ("think", exponential(math.nan)),
        ("think", Distribution("pareto", 1)),
        ("think", 20.0),
        ("hold", exponential(math.inf)),
        ("slice_us", 0.0),
        ("slice_us", -1.0),
        ("switch_us", math.nan),
        ("kick_us", -0.5),
        ("exit_us", math.inf),
        ("patience_us", -1.0),
        ("ple_us", 0.0),
        ("ple_us", math.nan),
        ("irq_interval", constant(0)),
        ("irq_interval", exponential(-1)),
        ("ticket_bits", 7),
        ("ticket_bits", -8),
    ],
)
def test_an_error_names_the_parameter(name: str, value: object) -> None:
    case = replace(Case("pv-ticket", vcpus=16), **{name: value})  # type: ignore[arg-type]
    with pytest.raises(LockError, match=rf"^{name}: "):
        simulate(case)


def test_time_must_pass() -> None:
    with pytest.raises(LockError, match=r"^think: .*hold"):
        simulate(Case("pv-ticket", think=constant(0), hold=exponential(0)))


@pytest.mark.parametrize(
    ("protocol", "bits", "most"),
    [
        ("ticket-2.6.25", 8, 255),
        ("ticket-2.6.25", 16, 65_535),
        ("pv-ticket-3.12", 8, 127),
        ("pv-ticket-4.0", 8, 127),
        ("pv-ticket-4.0", 16, 32_767),
        ("pv-ticket", 8, 255),
        ("pv-hybrid", 16, 65_535),
    ],
)
def test_no_more_may_wait_than_there_are_tickets(protocol: str, bits: int, most: int) -> None:
    case = Case(protocol, vcpus=most, ticket_bits=bits, duration=1e-5)
    assert simulate(case).idle > 0
    with pytest.raises(LockError, match=rf"^vcpus: {most + 1} CPUs .* {most}$"):
        simulate(replace(case, vcpus=most + 1))
    assert simulate(replace(case, vcpus=2 * most, vms=2)).idle > 0, "the limit is that of a virtual machine"


def test_a_simulation_can_be_interrupted() -> None:
    code = "from pvops.lock.simulate import *; print('on', flush=True); simulate(Case('pv-ticket', duration=9000.0))"
    with interruptible([sys.executable, "-c", code]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"on\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert b"KeyboardInterrupt" in errors
