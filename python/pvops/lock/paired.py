"""Locks compared round by round, where the machine did not change its mode meanwhile.

A virtual machine's CPUs are moved about below it and share caches with others. The time that a cache line takes from
one CPU to another stays for some seconds and then is another, and every lock's throughput with it: locks that were
measured in different modes cannot be compared. So that time is read before and after each measurement.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

#: Readings that differ by more than this factor are of different modes. Those of one mode differ by some per cent, and
#: those of the modes seen by a half.
APART = 1.2


@dataclass(frozen=True)
class Run:
    """One measurement of a lock: in which round, what came of it, and a cache line's way before and after, in ns."""

    lock: str
    round: int
    ops_per_second: float
    before_ns: float
    after_ns: float

    @property
    def changed(self) -> bool:
        """Whether the machine changed its mode meanwhile."""
        return not one_mode((self.before_ns, self.after_ns))


def one_mode(readings: Sequence[float]) -> bool:
    """Whether readings are of one mode."""
    return max(readings) <= APART * min(readings)


def ratios(runs: Iterable[Run], lock: str, others: Sequence[str]) -> list[float]:
    """The throughput of a lock for each of the best of others, in each round that had one mode for all of them."""
    rounds: dict[int, dict[str, Run]] = {}
    for run in runs:
        rounds.setdefault(run.round, {})[run.lock] = run
    found = []
    for measured in rounds.values():
        beside = [measured[name] for name in others if name in measured and name != lock]
        best = max((run.ops_per_second for run in beside), default=0.0)
        if lock not in measured or best == 0:
            continue
        if one_mode([reading for run in (measured[lock], *beside) for reading in (run.before_ns, run.after_ns)]):
            found.append(measured[lock].ops_per_second / best)
    return found
