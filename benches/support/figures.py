"""The figures of a run, and what stands beside what."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from support.rounds import LIMIT, OURS, PEER

SCHEMA = "pvops.benchmarks/1"
#: What takes so many times as long as in an earlier run is said to have got slower.
SLOWER = 1.1


class Row(NamedTuple):
    """One figure: what was done, by whom, in how many seconds, and whose it is."""

    job: str
    name: str
    seconds: float
    role: str


class Pair(NamedTuple):
    """Our figure beside another; the other is None where a job has no other."""

    job: str
    ours: Row
    other: Row | None

    @property
    def ratio(self) -> float | None:
        """How many times as long as the other we take."""
        return self.ours.seconds / self.other.seconds if self.other is not None and self.other.seconds else None


def pairs(rows: Iterable[Row]) -> list[Pair]:
    """Our figure of each job beside every other of it; a job without ours or without another is listed as it is."""
    jobs: dict[str, list[Row]] = {}
    for row in rows:
        jobs.setdefault(row.job, []).append(row)
    out = []
    for job, found in jobs.items():
        ours = [row for row in found if row.role == OURS]
        others = [row for row in found if row.role != OURS]
        if ours and others:
            out += [Pair(job, one, other) for one in ours for other in others]
        else:
            out += [Pair(job, row, None) for row in found]
    return out


class Since:
    """What has changed since an earlier run."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._seconds = {(row.job, row.name): row.seconds for row in rows}

    def ours(self, pair: Pair) -> float | None:
        """Our time over the earlier one."""
        before = self._before(pair.ours)
        return pair.ours.seconds / before if before else None

    def ratio(self, pair: Pair) -> float | None:
        """The earlier ratio, which says more than the time: that depends on what else the machine did."""
        before, theirs = self._before(pair.ours), pair.other and self._before(pair.other)
        return before / theirs if before and theirs else None

    def slower(self, found: Iterable[Pair]) -> list[tuple[Pair, float]]:
        """What takes more than a tenth longer than then, and how many times as long: by the ratios where both runs have
        one, else by the times. Most first."""
        grown = []
        for pair in found:
            before = self.ratio(pair)
            times = pair.ratio / before if before and pair.ratio is not None else self.ours(pair)
            if times is not None and times > SLOWER:
                grown.append((pair, times))
        return sorted(grown, key=lambda one: -one[1])

    def _before(self, row: Row) -> float | None:
        return self._seconds.get((row.job, row.name))


def criterion(folder: Path, since: float) -> Iterator[Row]:
    """What criterion measured since a time: the median of each function."""
    for path in sorted(folder.rglob("new/benchmark.json")):
        estimates = path.with_name("estimates.json")
        if not estimates.exists() or estimates.stat().st_mtime < since:
            continue
        about = json.loads(path.read_text())
        name = " ".join(filter(None, (about["function_id"], about["value_str"]))) or about["group_id"]
        nanoseconds = json.loads(estimates.read_text())["median"]["point_estimate"]
        yield Row(about["group_id"], name, nanoseconds / 1e9, role(name))


def role(name: str) -> str:
    """Whose a row of criterion is, by its name."""
    return OURS if name.startswith("pvops") else LIMIT if name.startswith("limit") else PEER


def saved(path: Path) -> list[Row]:
    """The rows of a saved run."""
    try:
        run: Any = json.loads(path.read_text())
        if run["schema"] != SCHEMA:
            raise ValueError(f"its schema is {run['schema']}")
        return [Row(**row) for row in run["rows"]]
    except (OSError, ValueError, KeyError, TypeError) as wrong:
        raise SystemExit(f"{path}: no saved run of {SCHEMA}: {wrong}") from None
