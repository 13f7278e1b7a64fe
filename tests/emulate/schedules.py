"""Many seeded schedules of every lock's guest, and what each protocol promises held to all of them.

``PYTHONPATH=tests python -m emulate.schedules --each 1000`` takes that many of each protocol: below every hypervisor,
in both widths, as built and patched, on two, three and four virtual CPUs, with slices of two kinds, with store buffers
and without, with timer interrupts and without. Exit status 1 where a promise is broken.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from emulate.test_locks import SIDE_BY_SIDE, TORN, image
from emulate.test_locks_interrupts import NOT_NESTABLE
from pvops.emulate.guest import locks
from pvops.emulate.smp.machine import Machine
from pvops.emulate.smp.setting import Setting

#: What is promised, and the kinds of failures that break it.
PROMISES = {
    "mutual exclusion": {"mutual-exclusion", "lost-update"},
    "order": {"order"},
    "no kick lost": {"lost-kick"},
}


class Kept(NamedTuple):
    """What came of one protocol's schedules.

    Attributes:
        schedules: how many there were.
        acquisitions, slow: in all of them, and how often a waiter went to sleep.
        broken: kind of a failure → how often.
        first: what broke first, with its seed; None where nothing did.
        seconds: of CPU.
    """

    schedules: int
    acquisitions: int
    slow: int
    broken: Counter[str]
    first: str | None
    seconds: float


def settings(name: str, backend: str, first: int) -> Iterator[Setting]:
    """Schedules without end, each of another kind than the one before."""
    nests = (name, backend) not in NOT_NESTABLE
    for seed in itertools.count(first):
        shape = TORN if seed % 2 else SIDE_BY_SIDE
        tick = 150 if nests and seed // 4 % 2 else 0
        yield shape._replace(seed=seed, buffers=bool(seed // 2 % 2), tick=tick, ticket=254 - seed % 3)


def machines(name: str) -> list[Machine]:
    """The machines of a protocol."""
    backends = locks.protocol(name).backends
    made = itertools.product((32, 64), backends, (False, True), (2, 3, 4))
    return [Machine(image(name, bits), backend, n, patched=patched) for bits, backend, patched, n in made]


def kept(name: str, each: int) -> Kept:
    """Runs so many schedules of a protocol, as many on each machine."""
    start = time.process_time()
    made = machines(name)
    share = -(-each // len(made))
    broken: Counter[str] = Counter()
    done, acquisitions, slow, first = 0, 0, 0, None
    for number, machine in enumerate(made):
        for setting in itertools.islice(settings(name, machine.backend, number * share), share):
            outcome = machine.run(setting)
            done += 1
            acquisitions += sum(outcome.acquisitions)
            slow += outcome.blocked
            if not outcome.ok:
                kind = outcome.broken.kind if outcome.broken else outcome.stop.kind
                broken[kind] += 1
                bits, cpus = machine.image.bits, len(machine.cpus)
                first = first or f"{kind}: {machine.backend}, {bits} bits, {cpus} CPUs, {setting}: {outcome.stop.why}"
    return Kept(done, acquisitions, slow, broken, first, time.process_time() - start)


def row(name: str, found: Kept) -> str:
    """A line of the table."""
    protocol = locks.protocol(name)
    told = ""
    for promise, kinds in PROMISES.items():
        times = sum(found.broken[kind] for kind in kinds)
        promised = promise != "order" or protocol.fifo
        told += f"{f'broken {times} times' if times else 'kept' if promised else 'not promised':<18}"
    return f"{name:<22}{found.schedules:>10,}{found.acquisitions:>13,}{found.slow:>8,}  {told}{found.seconds:>4.0f} s"


def main() -> int:
    """Runs the command line; its status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--each", type=int, default=1000, metavar="N", help="schedules of each protocol (default 1000)")
    parser.add_argument("--only", metavar="PROTOCOL", choices=locks.NAMES, help="one protocol")
    told = parser.parse_args()
    each, only = told.each, told.only
    promises = "".join(f"{promise:<18}" for promise in PROMISES)
    print(f"{'protocol':<22}{'schedules':>10}{'acquisitions':>13}{'slept':>8}  {promises}{'CPU':>6}")
    status = 0
    for name in [only] if only else locks.NAMES:
        found = kept(name, each)
        print(row(name, found), flush=True)
        if found.broken:
            status = 1
            print(f"  {found.first}")
    return status


if __name__ == "__main__":
    sys.exit(main())
