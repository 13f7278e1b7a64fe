"""Things timed in turn, so that what else the machine does meets them all alike; and where their times go."""

from __future__ import annotations

import json
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

#: Who a time is of.
OURS, PEER, LIMIT = "ours", "peer", "limit"
#: Seconds. What takes longer runs once.
SLOW = 2.0


def spent() -> float:
    """Processor time so far, user and system, in seconds; with that of children that have ended."""
    return time.process_time() + spent_by_children()


def spent_by_children() -> float:
    """The same of the children alone: for commands, where starting them is not what is measured."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


class Job(NamedTuple):
    """What several do, each in its way.

    Attributes:
        title: of the job.
        runs: who → what does it once.
        roles: who → OURS, PEER or LIMIT.
        clock: seconds so far, as they count here.
        check: ends the script where they do not all come to the same; called before anything is timed.
    """

    title: str
    runs: Mapping[str, Callable[[], object]]
    roles: Mapping[str, str]
    clock: Callable[[], float] = spent
    check: Callable[[], None] = lambda: None


def compare(
    job: Job, rounds: int, of: Callable[[Sequence[float]], float] = min, slow: float = SLOW
) -> dict[str, float]:
    """Checks, times and reports a job: the seconds of each run, over rounds that alternate between them.

    Args:
        job: what is timed.
        rounds: how many.
        of: which of a run's times counts: the least, or their median.
        slow: what takes longer runs once; seconds.
    """
    job.check()
    times: dict[str, list[float]] = {name: [] for name in job.runs}
    for _ in range(rounds):
        for name, run in job.runs.items():
            if times[name] and times[name][0] > slow:
                continue
            began = job.clock()
            run()
            times[name].append(job.clock() - began)
    found = {name: of(took) for name, took in times.items()}
    report(job.title, found, job.roles)
    return found


def measure(
    jobs: Callable[[Path], Iterator[Job]],
    rounds: int,
    of: Callable[[Sequence[float]], float] = min,
    slow: float = SLOW,
) -> None:
    """What a script does: all its jobs, in a folder for their files; see `compare`."""
    with tempfile.TemporaryDirectory() as folder:
        for job in jobs(Path(folder)):
            compare(job, rounds, of, slow)


def report(title: str, seconds: Mapping[str, float], roles: Mapping[str, str]) -> None:
    """Prints the times of a job, and adds them to the file of `PVOPS_BENCH_ROWS` where there is one."""
    base = next((seconds[name] for name in seconds if roles[name] == OURS), None)
    print(title)
    for name, took in seconds.items():
        ratio = f"{took / base:9.2f} x" if base and roles[name] != OURS else ""
        print(f"  {name:<58} {shown(took):>10} {ratio}".rstrip())
    path = os.environ.get("PVOPS_BENCH_ROWS")
    if path:
        with open(path, "a", encoding="utf-8") as out:
            for name, took in seconds.items():
                out.write(json.dumps({"job": title, "name": name, "seconds": took, "role": roles[name]}) + "\n")


def shown(seconds: float) -> str:
    """A time in the unit that suits it."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= 0.9995 * size:  # what would be rounded to 1,000 of a unit is 1 of the next
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
