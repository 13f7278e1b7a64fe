"""The standard sweep: what ``pvops lock simulate`` runs when it is asked for nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from pvops.lock.simulate import USUAL, Case, Distribution
from pvops.tuples import NamedTuple

#: Physical CPUs of every case but those that are compared with published figures.
PCPUS = 8

#: One protocol of each behaviour: 4.0's is 3.12's here.
DISTINCT = ("ticket-2.6.25", "xen-byte-2.6.27", "pv-ticket-3.12", "pv-ticket", "pv-hybrid")

#: Thresholds in µs, from one that is shorter than a normal wait to none.
THRESHOLDS = (0.5, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 200.0, 800.0, 12_000.0, None)


class Section(NamedTuple):
    """A table of the sweep.

    Attributes:
        name: as documents call it.
        title: a heading.
        columns: the attributes of a case in which its rows differ.
        cases: its rows. Throughput is told relative to the first.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    cases: Sequence[Case]


def standard(duration: float = 1.0) -> list[Section]:
    """All tables; `duration` in seconds simulated for each case."""
    return [
        Section(
            "one-lock",
            "One hot lock, 38 % busy without over-commitment, on 8 physical CPUs",
            ("protocol", "vcpus"),
            _overcommitted(1, duration),
        ),
        Section(
            "64-locks",
            "64 locks, as in a kernel",
            ("protocol", "vcpus"),
            _overcommitted(64, duration),
        ),
        Section(
            "threshold",
            "What the threshold trades: one lock, pv-ticket, without and with over-commitment",
            ("vcpus", "threshold_us"),
            [
                Case("pv-ticket", threshold_us=t, vcpus=n, pcpus=PCPUS, duration=duration)
                for n in (PCPUS, 2 * PCPUS)
                for t in THRESHOLDS
            ],
        ),
        Section(
            "schedulers",
            "Schedulers: two virtual machines of 8 virtual CPUs, a lock in each",
            ("scheduler", "protocol"),
            [
                Case(p, vcpus=2 * PCPUS, pcpus=PCPUS, vms=2, scheduler=s, duration=duration)
                for s in ("round-robin", "credit", "gang")
                for p in DISTINCT
            ],
        ),
        Section(
            "pause-loop-exiting",
            "Pause-loop exiting after 1.6 µs of spinning: one lock, 16 virtual CPUs",
            ("protocol", "ple_us"),
            [
                Case(p, vcpus=2 * PCPUS, pcpus=PCPUS, ple_us=ple, duration=duration)
                for p in ("ticket-2.6.25", "pv-ticket")
                for ple in (None, 1.6)
            ],
        ),
        Section(
            "interrupts",
            "Interrupts every 100 µs, whose handlers take a lock of their own for 1 µs",
            ("protocol", "vcpus", "irq_interval"),
            [
                Case(p, vcpus=n, pcpus=PCPUS, irq_interval=irq, duration=duration)
                for p in ("ticket-2.6.25", "pv-ticket", "pv-hybrid")
                for n in (PCPUS, 2 * PCPUS)
                for irq in (None, Distribution("exponential", 100.0))
            ],
        ),
    ]


def _overcommitted(locks: int, duration: float) -> list[Case]:
    return [
        Case(p, threshold_us=USUAL, vcpus=times * PCPUS, pcpus=PCPUS, locks=locks, duration=duration)
        for p in DISTINCT
        for times in (1, 2, 3, 4)
    ]
