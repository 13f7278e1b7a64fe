"""Things timed in turn, so that what else the machine does meets them all alike; and where their times go."""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Callable, Mapping

#: Who a time is of.
OURS, PEER, LIMIT = "ours", "peer", "limit"


def least(jobs: Mapping[str, Callable[[], object]], rounds: int, slow: float = 2.0) -> dict[str, float]:
    """The least processor time of each job, in seconds, over several rounds that alternate between them.

    User and system time of this process and of those it waited for: what else runs counts little.
    A job that takes longer than `slow` seconds runs once.
    """
    found: dict[str, float] = {}
    for turn in range(rounds):
        for name, job in jobs.items():
            if turn and found[name] > slow:
                continue
            began = spent()
            job()
            found[name] = min(found.get(name, float("inf")), spent() - began)
    return found


def spent() -> float:
    """Processor time so far, with that of children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def report(job: str, seconds: Mapping[str, float], roles: Mapping[str, str]) -> None:
    """Prints the times of a job, and adds them to the file of `PVOPS_BENCH_ROWS` where there is one."""
    base = next((seconds[name] for name in seconds if roles[name] == OURS), None)
    print(job)
    for name, took in seconds.items():
        ratio = f"{took / base:9.2f} x" if base and roles[name] != OURS else ""
        print(f"  {name:<58} {shown(took):>10} {ratio}".rstrip())
    path = os.environ.get("PVOPS_BENCH_ROWS")
    if path:
        with open(path, "a", encoding="utf-8") as out:
            for name, took in seconds.items():
                out.write(json.dumps({"job": job, "name": name, "seconds": took, "role": roles[name]}) + "\n")


def shown(seconds: float) -> str:
    """A time in the unit that suits it."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
