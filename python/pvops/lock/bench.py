"""Measures the locks on this machine, beside those that people use and beside the machine's own limits.

Every lock is measured once in a round, in an order rotated from round to round, so that what else runs here disturbs
all alike. A figure is the median over the rounds; that of an uncontended pair is the minimum, for noise only adds. A
ratio of two locks is the median over the rounds in which the machine kept one mode (`pvops.lock.paired`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import median, quantiles

import pvops._core as _core
from pvops.cpus import usable_cpus
from pvops.errors import LockError, nearest
from pvops.lock.paired import Run, ratios

#: Seconds that one lock may take in one case: plain ticket locks on too few CPUs take that long to stop.
PATIENCE = 5.0
#: Pairs of an uncontended measurement, and how many of those make a round.
PAIRS, PAIR_RUNS = 50_000, 40
#: Seconds for which a cache line is passed to and fro to see in which mode the machine is.
MODE = 0.005
#: The lock that ours must not be slower than where nobody lacks a CPU; and what the names of ours begin with.
PLAIN, OURS = "pvops::lock::TicketLock2_6_25", "pvops::"

Report = Callable[[str], None]


@dataclass(frozen=True)
class Case:
    """Threads that share a lock, on the first so many of the CPUs this process may use."""

    threads: int
    cpus: int
    section_ns: int = 100
    pause_ns: int = 100


@dataclass(frozen=True)
class Row:
    """A lock in a case: medians over the rounds, and the quartiles of the throughput."""

    lock: str
    threads: int
    cpus: int
    section_ns: int
    pause_ns: int
    rounds: int
    ops_per_second: float
    ops_low: float
    ops_high: float
    wait_p50_us: float
    wait_p999_us: float
    wait_max_us: float
    fairness: float
    #: Nanoseconds of a pair, the smallest and the median; only in the row of one thread.
    uncontended_ns: float | None = None
    uncontended_median_ns: float | None = None
    #: The throughput for each of the plain lock's, and of the best lock of others: medians over the rounds in which the
    #: machine kept one mode while those were measured, and how many these were. None where there was no such round.
    of_plain: float | None = None
    of_best_peer: float | None = None
    paired_rounds: int = 0
    #: In how many rounds the machine changed its mode while this lock was measured, and the way of a cache line from
    #: CPU to CPU in the fastest and the slowest mode, in nanoseconds.
    mode_changes: int = 0
    line_low_ns: float | None = None
    line_high_ns: float | None = None


@dataclass(frozen=True)
class Limit:
    """A limit of the machine, in nanoseconds: what no lock can be faster than."""

    minimum: float
    low: float
    median: float
    high: float

    @property
    def steady(self) -> bool:
        """Whether the quartiles lie within 10 % of each other; a run where they do not is worth repeating."""
        return self.high <= 1.1 * self.low


@dataclass(frozen=True)
class Measured:
    """Everything that one run of the bench measured."""

    rows: list[Row]
    limits: dict[str, Limit]
    asymmetric: bool

    def to_dict(self) -> dict[str, object]:
        """The document of ``pvops lock bench --json``."""
        limits = {name: {**asdict(limit), "steady": limit.steady} for name, limit in self.limits.items()}
        return {
            "schema": "pvops.lock_bench/1",
            "asymmetric_fence": self.asymmetric,
            "limits_ns": limits,
            "locks": [asdict(row) for row in self.rows],
        }


@dataclass
class _Runs:
    """What was measured of one lock in one case."""

    found: list[tuple[float, float, float, float, float]] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    seconds: float = 0.0


def standard_cases() -> list[Case]:
    """Two threads, and 4 to 16 on two CPUs; 8 on one."""
    cpus = min(2, len(usable_cpus()))
    over = [Case(threads, cpus) for threads in (2, 4, 8, 16)]
    return [*over, Case(8, 1)] if cpus > 1 else over


def measure(
    cases: Sequence[Case] | None = None,
    locks: Sequence[str] | None = None,
    *,
    rounds: int = 5,
    seconds: float = 0.18,
    report: Report = lambda _: None,
) -> Measured:
    """Measures locks (Rust paths; all) in cases (the standard ones), so many rounds of so many seconds each.

    Raises:
        LockError: a parameter makes no sense, or this build has no locks to measure beside.
    """
    names = _core.lock_bench_names()
    if not names:
        raise LockError("this build has no locks of others to measure beside (cargo feature peers, Linux)")
    if unknown := sorted(set(locks or ()) - set(names)):
        raise LockError(f"no lock is named {unknown[0]!r}{nearest(unknown[0], names)}: {', '.join(names)}")
    if not 1 <= rounds <= 1000:
        raise LockError(f"rounds: {rounds}, where 1 to 1000 are possible")
    cases = standard_cases() if cases is None else cases
    for case in cases:
        if not 1 <= case.cpus <= len(usable_cpus()):
            raise LockError(f"cpus: {case.cpus}, where this process may use {len(usable_cpus())}")
        for name in ("section_ns", "pause_ns"):
            if getattr(case, name) < 0:
                raise LockError(f"{name}: {getattr(case, name)}, where at least 0 is needed")
    if seconds == 0:
        raise LockError("seconds: 0, in which nothing is measured")
    chosen = [name for name in names if not locks or name in locks]
    rows, limits = _uncontended(chosen, rounds, report)
    for case in cases:
        report(f"{case.threads} threads, {case.cpus} CPUs")
        rows += _contended(case, chosen, rounds, seconds)
    return Measured(rows, limits, _core.lock_asymmetric())


def _rotated(names: Sequence[str], rounds: int) -> Iterator[str]:
    for turn in range(rounds):
        start = turn % len(names)
        yield from [*names[start:], *names[:start]]


def _uncontended(names: Sequence[str], rounds: int, report: Report) -> tuple[list[Row], dict[str, Limit]]:
    report("one thread, and the limits")
    pairs: dict[str, list[float]] = {name: [] for name in names}
    alone: dict[str, _Runs] = {name: _Runs() for name in names}
    limits: list[tuple[float, float, float]] = []
    cpus = usable_cpus()
    for turn in range(rounds):
        limits.append(_core.lock_bench_limits(cpus[:2], 0.05))
        for name in _rotated(names, PAIR_RUNS):
            pairs[name].append(_core.lock_bench_pair(name, PAIRS))
        for name in list(_rotated(names, turn + 1))[-len(names) :]:
            alone[name].found.append(_core.lock_bench_contend(name, 1, cpus[:1], (0, 0), (0.02, 0.005)))
    case = Case(1, 1, 0, 0)
    rows = [_row(name, case, alone[name], min(pairs[name]), median(pairs[name])) for name in names]
    kinds = ("raw_pair", "futex_same_cpu", "futex_cross_cpu")
    return rows, {kind: _limit([limit[i] for limit in limits]) for i, kind in enumerate(kinds) if limits[0][i]}


def _contended(case: Case, names: Sequence[str], rounds: int, seconds: float) -> list[Row]:
    measured = {name: _Runs() for name in names}
    cpus = usable_cpus()[: case.cpus]
    work, times = (case.section_ns, case.pause_ns), (seconds, min(seconds / 2, 0.15))
    before = _core.lock_bench_mode(cpus, MODE)
    for turn, name in enumerate(_rotated(names, rounds)):
        lock = measured[name]
        if lock.seconds > PATIENCE:
            continue
        start = time.monotonic()
        lock.found.append(_core.lock_bench_contend(name, case.threads, cpus, work, times))
        lock.seconds += time.monotonic() - start
        after = _core.lock_bench_mode(cpus, MODE)
        lock.runs.append(Run(name, turn // len(names), lock.found[-1][0], before, after))
        before = after
    runs = [run for lock in measured.values() for run in lock.runs]
    return [_compared(_row(name, case, measured[name]), measured[name].runs, runs) for name in names]


def _compared(row: Row, own: Sequence[Run], runs: Sequence[Run]) -> Row:
    peers = sorted({run.lock for run in runs if not run.lock.startswith(OURS)})
    to_plain, to_peers = ratios(runs, row.lock, [PLAIN]), ratios(runs, row.lock, peers)
    readings = [reading for run in own for reading in (run.before_ns, run.after_ns)]
    return replace(
        row,
        of_plain=median(to_plain) if to_plain else None,
        of_best_peer=median(to_peers) if to_peers else None,
        paired_rounds=len(to_peers),
        mode_changes=sum(run.changed for run in own),
        line_low_ns=min(readings),
        line_high_ns=max(readings),
    )


def _row(name: str, case: Case, runs: _Runs, pair: float | None = None, pair_median: float | None = None) -> Row:
    ops, p50, p999, longest, fairness = (list(column) for column in zip(*runs.found, strict=True))
    low, middle, high = _quartiles(ops)
    return Row(
        lock=name,
        **asdict(case),
        rounds=len(ops),
        ops_per_second=middle,
        ops_low=low,
        ops_high=high,
        wait_p50_us=median(p50),
        wait_p999_us=median(p999),
        wait_max_us=median(longest),
        fairness=median(fairness),
        uncontended_ns=pair,
        uncontended_median_ns=pair_median,
    )


def _quartiles(figures: Sequence[float]) -> tuple[float, float, float]:
    if len(figures) == 1:
        return figures[0], figures[0], figures[0]
    low, middle, high = quantiles(figures, n=4, method="inclusive")
    return low, middle, high


def _limit(figures: Sequence[float]) -> Limit:
    return Limit(min(figures), *_quartiles(figures))
