"""Published figures, beside what the simulator says of the nearest case it can run.

Only figures whose source could be read are here. A simulated lock is no benchmark: a figure *agrees* where it is of the
published size, to a factor of two, and otherwise goes the same way or does not. Each comparison says what does not
match.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pvops.lock.simulate import Case, Result

#: 4,096 cycles, the window of KVM's pause-loop exiting in those years, at 2.6 GHz.
_PLE_US = 1.6


@dataclass(frozen=True, slots=True)
class Row:
    """One figure.

    Attributes:
        what: what it is.
        published: as published.
        simulated: as simulated.
        agrees: whether the simulation is of the published size, to a factor of two.
        direction: whether it goes the same way at all.
    """

    what: str
    published: str
    simulated: str
    agrees: bool
    direction: bool

    @property
    def verdict(self) -> str:
        """Whether both agree, in words."""
        if self.agrees:
            return "agrees"
        return "same direction, another size" if self.direction else "differs"


#: Gains that differ by less are one: what a run of either differs by from the next.
_SAME_GAIN = 0.02


def _ratio(what: str, published: tuple[float, str], simulated: tuple[float, str], direction: bool) -> Row:
    """A row of a quotient, such as a share or a speed-up."""
    near = 0.5 <= simulated[0] / published[0] <= 2
    return Row(what, published[1], simulated[1], direction and near, direction)


def _gain_row(what: str, published: tuple[float, str], simulated: tuple[float, str]) -> Row:
    """A row of a gain, as a fraction: 0.02 is 2 %."""
    (was, now) = published[0], simulated[0]
    same = abs(now - was) < _SAME_GAIN
    direction = same or (now * was > 0 and abs(now) >= _SAME_GAIN)
    return Row(what, published[1], simulated[1], same or (direction and 0.5 <= now / was <= 2), direction)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A published result.

    Attributes:
        name: as documents call it.
        title: what was measured.
        source: where it is published.
        differs: what of it the simulation does not match, and why.
        cases: what is simulated for it.
        rows: turns the results of the cases, in order, into rows.
    """

    name: str
    title: str
    source: str
    differs: str
    cases: Mapping[str, Case]
    rows: Callable[[Mapping[str, Result]], list[Row]]


#: dbench MB/s without and with pv ticket locks, by over-commitment.
_DBENCH = {1: (15035.3, 15150.0), 2: (1470.0, 1713.7), 3: (848.6, 967.8), 4: (652.9, 685.3)}


def _dbench_case(protocol: str, times: int, ple: float | None, duration: float) -> Case:
    return Case(
        protocol,
        vcpus=32 * times,
        pcpus=32,
        vms=times,
        locks=64,
        scheduler="round-robin",
        ple_us=ple,
        duration=duration,
    )


def _dbench_rows(results: Mapping[str, Result]) -> list[Row]:
    rows = []
    base = _DBENCH[1][0]
    for label in ("no PLE", "PLE"):
        for times, (plain, pv) in _DBENCH.items():
            was, now = (results[f"{protocol} {times}x {label}"].throughput for protocol in ("plain", "pv"))
            first = results[f"plain 1x {label}"].throughput
            rows.append(
                _ratio(
                    f"plain ticket, {times}x, simulated with {label}",
                    (plain / base, f"{plain / base:.3f} of 1x"),
                    (was / first, f"{was / first:.3f} of 1x"),
                    times == 1 or was / first < 0.95,
                )
            )
            rows.append(
                _gain_row(
                    f"gain of pv, {times}x, simulated with {label}",
                    (pv / plain - 1, f"{pv / plain - 1:+.1%}"),
                    (now / was - 1, f"{now / was - 1:+.1%}"),
                )
            )
    return rows


def comparisons(duration: float = 1.0) -> list[Comparison]:
    """All comparisons; `duration` in seconds simulated for each case."""
    plain = Case("ticket-2.6.25", vcpus=16, pcpus=8, duration=duration)
    many = {
        name: Case(protocol, threshold_us=threshold, vcpus=16, pcpus=8, locks=64, duration=duration)
        for name, protocol, threshold in (
            ("plain", "ticket-2.6.25", None),
            ("test-and-set", "xen-byte-2.6.27", None),
            ("pv", "pv-ticket", 10.0),
        )
    }
    return [
        Comparison(
            "friebel-2008",
            "Time spent spinning on ticket locks in a virtual machine",
            "Fitzhardinge, commit 74d4affde8fe (2008), of Friebel, Xen Summit 2008",
            "The commit gives neither over-commitment nor workload. Here physical CPUs are over-committed twice; "
            "with contention spread over 64 locks the share is lower than with one.",
            {"one lock": plain, "64 locks": many["plain"]},
            lambda results: [
                Row(f"share of busy time, {name}", "90+ %", f"{r.spinning:.1%}", r.spinning >= 0.9, r.spinning >= 0.5)
                for name, r in results.items()
            ],
        ),
        Comparison(
            "dbench-v12",
            "dbench on virtual machines of 32 virtual CPUs, on 32 CPUs: one machine (1x) to four (4x)",
            "Raghavendra K T, commit 545ac13892ab (3.12), series V12; its rows read as 1x to 4x",
            "The measured base has pause-loop exiting (PLE). The simulated one yields to exactly the right one at the "
            "right time, since a queue is all there is: so it loses far less than measured and leaves pv nothing to "
            "gain. Without PLE the fall is the measured one in kind, but pv gains far more than measured. "
            "dbench also reads and writes files; the simulated programs only think and lock.",
            {
                f"{name} {times}x {label}": _dbench_case(protocol, times, ple, duration / 2)
                for label, ple in (("no PLE", None), ("PLE", _PLE_US))
                for name, protocol in (("plain", "ticket-2.6.25"), ("pv", "pv-ticket-3.12"))
                for times in _DBENCH
            },
            _dbench_rows,
        ),
        Comparison(
            "vee-2013",
            "Preemptable ticket locks against ticket locks, on average over benchmarks",
            "Ouyang and Lange, VEE 2013, abstract",
            "Their lock is not simulated. The nearest without a paravirtual interface is test-and-set, where a waiter "
            "that lost its CPU holds up nobody; with the interface, a ticket lock that blocks. Here both come to "
            "nearly all that can be had, so the step between them is smaller than theirs.",
            many,
            lambda results: [
                _ratio(
                    "without a paravirtual interface",
                    (5.32, "x 5.32"),
                    (_gain(results, "test-and-set"), f"x {_gain(results, 'test-and-set'):.2f}"),
                    _gain(results, "test-and-set") > 1,
                ),
                _ratio(
                    "with a paravirtual interface",
                    (7.91, "x 7.91"),
                    (_gain(results, "pv"), f"x {_gain(results, 'pv'):.2f}"),
                    _gain(results, "pv") > _gain(results, "test-and-set"),
                ),
            ],
        ),
        Comparison(
            "xen-ple",
            "Pause-loop exiting, for a kernel build over-committed twice",
            "Xen, commit b67758cd",
            "A kernel build takes few locks for its work, so there was little to lose; here locks are all there is.",
            {
                "off": many["plain"],
                "on": Case("ticket-2.6.25", vcpus=16, pcpus=8, locks=64, ple_us=_PLE_US, duration=duration),
            },
            lambda results: [
                _gain_row(
                    "gain of pause-loop exiting",
                    (0.02, "+2 %"),
                    (_gain_of_ple(results), f"{_gain_of_ple(results):+.0%}"),
                )
            ],
        ),
    ]


def _gain_of_ple(results: Mapping[str, Result]) -> float:
    return results["on"].throughput / results["off"].throughput - 1


def _gain(results: Mapping[str, Result], name: str) -> float:
    return results[name].throughput / results["plain"].throughput


def compared(comparison: Comparison, results: Sequence[Result]) -> list[Row]:
    """The rows of a comparison, from the results of its cases in order."""
    return comparison.rows(dict(zip(comparison.cases, results, strict=True)))
