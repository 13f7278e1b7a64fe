"""The simulator against a second model: slow, built otherwise, equal to the picosecond."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from lock.slow_model import SlowModel
from pvops.lock.simulate import PARTS, PROTOCOLS, SCHEDULERS, Case, Distribution, simulate

CASES = 120


def drawn_case(number: int) -> Case:
    """A small case in which much happens: short slices, few CPUs, long critical sections."""
    rng = random.Random(number)

    def distribution(mean: float) -> Distribution:
        return Distribution(rng.choice(["constant", "exponential", "uniform"]), round(mean * rng.uniform(0.2, 1.5), 3))

    vms = rng.choice([1, 1, 2, 3])
    return Case(
        rng.choice(PROTOCOLS),
        threshold_us=rng.choice([0.0, 1.0, 5.0, 10.0, 40.0, None]),
        vcpus=vms * rng.randint(1, 6),
        pcpus=rng.randint(1, 6),
        vms=vms,
        locks=rng.choice([1, 1, 2, 5]),
        scheduler=rng.choice(SCHEDULERS),
        seed=rng.randrange(2**64),
        duration=rng.choice([0.0005, 0.001, 0.002]),
        think=distribution(rng.choice([0.5, 3.0, 20.0])),
        hold=distribution(rng.choice([0.5, 2.0, 10.0])),
        slice_us=rng.choice([20.0, 50.0, 100.0, 333.0]),
        switch_us=rng.choice([0.0, 1.0, 1.5]),
        kick_us=rng.choice([0.0, 2.0, 5.0]),
        exit_us=rng.choice([0.0, 1.0]),
        ple_us=rng.choice([None, None, 3.0, 15.0]),
        patience_us=rng.choice([0.0, 20.0, 100.0]),
        irq_interval=rng.choice([None, distribution(30.0)]),
        irq_hold=distribution(2.0),
    )


def outcome_of_slow(case: Case) -> dict[str, object]:
    slow = SlowModel(case)
    waiting = [cpu.codes[0].waited for cpu in slow.cpus if cpu.codes[0].does == "spin"]
    return {
        "events": slow.events,
        "acquisitions": [cpu.acquisitions for cpu in slow.cpus],
        "parts": {part: sum(cpu.spent[part] for cpu in slow.cpus) for part in PARTS},
        "waits": len(slow.waits),
        "longest": max(slow.waits + waiting, default=0) / 1e6,
    }


def outcome(case: Case) -> dict[str, object]:
    result = simulate(case)
    return {
        "events": result.events,
        "acquisitions": list(result.acquisitions),
        "parts": {part: result.picoseconds[part] for part in PARTS},
        "waits": sum(count for _, count in result.waits),
        "longest": result.max_us,
    }


@pytest.mark.parametrize("batch", range(8))
def test_both_models_agree_to_the_picosecond(batch: int) -> None:
    for number in range(batch, CASES, 8):
        case = drawn_case(number)
        assert outcome(case) == outcome_of_slow(case), case


def test_the_cases_compared_reach_everything_that_can_happen() -> None:
    happened: dict[str, int] = {}
    for number in range(CASES):
        for name, count in simulate(drawn_case(number)).counters.items():
            happened[name] = happened.get(name, 0) + count
    assert not [name for name, count in happened.items() if count < 20], happened


def test_the_waits_are_those_of_the_slow_model() -> None:
    case = drawn_case(5)
    exact = sorted(SlowModel(case).waits)
    result = simulate(case)
    seen = 0
    for upper, count in result.waits:
        part = exact[seen : seen + count]
        seen += count
        assert all(upper * 63 / 64 - 1 <= wait <= upper for wait in part)
    assert seen == len(exact) > 50


@pytest.mark.parametrize("change", [{"kick_us": 2.25}, {"slice_us": 101.0}, {"patience_us": 30.0}, {"seed": 3}])
def test_a_small_change_of_a_case_is_seen(change: dict[str, float]) -> None:
    case = Case(
        "pv-hybrid",
        threshold_us=3.0,
        vcpus=6,
        pcpus=2,
        seed=2,
        duration=0.002,
        think=Distribution("uniform", 5.0),
        hold=Distribution("uniform", 4.0),
        slice_us=100.0,
        patience_us=25.0,
    )
    assert outcome(case) == outcome_of_slow(case)
    assert outcome(replace(case, **change)) != outcome_of_slow(case)  # type: ignore[arg-type]
