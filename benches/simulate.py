"""The lock simulator beside simpy, on the same loop, in one run.

    python benches/simulate.py

Virtual CPUs with a physical CPU each think, take the one lock, hold it and give it back; times are exponential. simpy's
has no hypervisor at all, which is in its favour. Rounds alternate, and the best of each counts, in processor time. An
event is what each calls one: of simpy, a step of its environment (four for each acquisition: a time-out, a request, a
time-out, a release); of pvops, one end of thinking or of holding (two). So acquisitions a second are compared as well.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

from support.given import module
from support.rounds import OURS, PEER, Job, compare

from pvops.lock.simulate import Case, simulate

ROUNDS = 5
VCPUS, THINK_US, HOLD_US = 8, 20.0, 0.5
#: Simulated seconds.
LONG, SHORT = 2.0, 0.1


def of_simpy(seconds: float) -> tuple[int, int, float]:
    """Events, acquisitions and seconds of a run of simpy."""
    import simpy

    class Counting(simpy.Environment):
        steps = 0

        def step(self) -> None:
            self.steps += 1
            super().step()

    environment = Counting()
    lock = simpy.Resource(environment, capacity=1)
    taken = 0
    draw = random.Random(1).expovariate

    def vcpu() -> Generator[Any, Any, None]:
        nonlocal taken
        while True:
            yield environment.timeout(draw(1 / THINK_US))
            with lock.request() as request:
                yield request
                yield environment.timeout(draw(1 / HOLD_US))
                taken += 1

    for _ in range(VCPUS):
        environment.process(vcpu())
    began = time.process_time()
    environment.run(until=seconds * 1e6)
    return environment.steps, taken, time.process_time() - began


def of_pvops(case: Case) -> tuple[int, int, float]:
    """Events, acquisitions and seconds of a run of the simulator."""
    began = time.process_time()
    result = simulate(case)
    return result.events, sum(result.acquisitions), time.process_time() - began


def jobs(_: Path) -> Iterator[Job]:
    """One loop, simulated by both; nothing, said, where there is no simpy."""
    simpy = module("simpy")
    if simpy is None:
        return
    theirs, ours = f"simpy {simpy.__version__}", "pvops"
    case = Case("ticket-2.6.25", vcpus=VCPUS, pcpus=VCPUS, duration=SHORT)

    def check() -> None:
        (_, one, _), (_, other, _) = of_simpy(SHORT), of_pvops(case)
        if abs(one / other - 1) > 0.1:
            raise SystemExit(f"simpy's lock is taken {one:,} times, ours {other:,}: not the same loop")

    runs: dict[str, Callable[[], object]] = {ours: lambda: simulate(case), theirs: lambda: of_simpy(SHORT)}
    title = f"simulate {SHORT:g} s of {VCPUS} virtual CPUs and a lock"
    yield Job(title, runs, {ours: OURS, theirs: PEER}, check=check)


def rates() -> None:
    """Measures and prints events and acquisitions a second, of other cases too."""
    cases = {
        "pvops, the same loop": Case("ticket-2.6.25", vcpus=VCPUS, pcpus=VCPUS, duration=LONG),
        "pvops, 64 locks": Case("ticket-2.6.25", vcpus=VCPUS, pcpus=VCPUS, locks=64, duration=LONG),
        "pvops, pv-ticket, 16 virtual CPUs": Case("pv-ticket", vcpus=2 * VCPUS, pcpus=VCPUS, duration=LONG),
        "pvops, pv-hybrid, 16 virtual CPUs": Case("pv-hybrid", vcpus=2 * VCPUS, pcpus=VCPUS, duration=LONG),
        "pvops, 32 physical CPUs, 64 virtual, 64 locks": Case("pv-ticket", vcpus=64, pcpus=32, locks=64, duration=LONG),
    }
    best: dict[str, tuple[float, float]] = dict.fromkeys(["simpy", *cases], (0.0, 0.0))
    for _ in range(ROUNDS):
        found = {"simpy": of_simpy(SHORT)} | {label: of_pvops(case) for label, case in cases.items()}
        for label, (events, taken, seconds) in found.items():
            best[label] = max(best[label], (events / seconds, taken / seconds))
    print(f"single-threaded, processor time, best of {ROUNDS} alternating rounds")
    print(f"  {'':<48} {'events/s':>12} {'locks/s':>12} {'x simpy':>8}")
    for label, (rate, locks) in best.items():
        print(f"  {label:<48} {rate:12,.0f} {locks:12,.0f} {rate / best['simpy'][0]:8.1f}")


def main() -> None:
    """Measures and prints."""
    with tempfile.TemporaryDirectory() as folder:
        for job in jobs(Path(folder)):
            compare(job, ROUNDS)
            rates()


if __name__ == "__main__":
    main()
