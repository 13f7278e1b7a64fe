"""Measuring, and what it finds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import pvops._core as _core
from pvops.display import show
from pvops.tuples import NamedTuple

#: How a form is run, and what that tells.
WAYS: Mapping[str, str] = {
    "warm": "in a loop, everything predicted: throughput",
    "serialised": "in a loop, a fence behind each site: latency",
    "distinct": "4,096 sites, 128 bytes apart, calling 64 ops in turn, once each after 65,536 other branches",
    "cold_callee": "once, with what it calls and the pointer to it in no cache",
    "cold_branches": "once, after 65,536 other branches",
}

#: Seconds of one measurement. A second one is made where the checks of the first fail.
SECONDS = 6.0


class Range(NamedTuple):
    """A cost in core cycles, the cost of the slot without a site subtracted.

    Attributes:
        median: of the readings that nothing disturbed.
        minimum: what the least readings of the two programs differ by; they need not be of one round.
        low: the lower end of the interval that holds the true median with 95 % confidence.
        high: its upper end.
    """

    median: float
    minimum: float
    low: float
    high: float


class FormCost(NamedTuple):
    """What one form of a site costs.

    Attributes:
        form: its name: ``nop6``, ``direct_call``, ….
        site: what stands at a site, as the passes left it.
        text: the same, disassembled.
        inlines: the op whose native code is inlined, or None.
        native: that code.
        stand_in: the unprivileged code of equal length that ran in its place; None where the code itself ran.
        ways: each of `WAYS`.
    """

    form: str
    site: bytes
    text: str
    inlines: str | None
    native: bytes | None
    stand_in: bytes | None
    ways: Mapping[str, Range]

    @property
    def cycles(self) -> float:
        """Core cycles in a loop."""
        return self.ways["warm"].median

    @property
    def serialised_cycles(self) -> float:
        """Core cycles between two fences."""
        return self.ways["serialised"].median

    @property
    def distinct_sites_cycles(self) -> float:
        """Core cycles among thousands of distinct sites, with a predictor that is full of other branches."""
        return self.ways["distinct"].median

    def document(self) -> dict[str, object]:
        """The form as JSON documents carry it."""
        warm = self.ways["warm"]
        return {
            "form": self.form,
            "cycles": _number(self.cycles),
            "serialised_cycles": _number(self.serialised_cycles),
            "distinct_sites_cycles": _number(self.distinct_sites_cycles),
            "low": _number(warm.low),
            "high": _number(warm.high),
            "minimum": _number(warm.minimum),
            "cold_callee_cycles": _number(self.ways["cold_callee"].median),
            "cold_branches_cycles": _number(self.ways["cold_branches"].median),
            "ways": {way: {k: _number(v) for k, v in range_._asdict().items()} for way, range_ in self.ways.items()},
            "site": self.site.hex(),
            "disassembly": self.text,
            "inlines": self.inlines,
            "native": None if self.native is None else self.native.hex(),
            "stand_in": None if self.stand_in is None else self.stand_in.hex(),
        }


class Check(NamedTuple):
    """Something known, measured by the same method.

    Attributes:
        check: what.
        expected: what it must be.
        measured: what it was.
        tolerance: how far off it may be.
        holds: whether it is not further off.
    """

    check: str
    expected: float
    measured: float
    tolerance: float
    holds: bool

    @property
    def must(self) -> str:
        """What it may be, as people read it: ``30.4 to 33.6``."""
        return f"{self.expected - self.tolerance:.3g} to {self.expected + self.tolerance:.3g}"


@dataclass(frozen=True, eq=False, repr=False)
class Measurement:
    """What every form costs on one CPU. Make one with `measure`.

    Attributes:
        forms: form → its cost.
        checks: what the method was held to.
        clock: what was counted.
        clock_why: why not core cycles, or None where they were.
        cycles_per_tsc: core cycles in a tick of the time-stamp counter.
        tsc_hz: ticks of the time-stamp counter in a second.
        cpu: the number of the CPU.
        cpu_model: its name, as /proc/cpuinfo has it.
        rounds: rounds that count.
        disturbed: rounds that do not.
    """

    forms: Mapping[str, FormCost]
    checks: Sequence[Check]
    clock: str
    clock_why: str | None
    cycles_per_tsc: float
    tsc_hz: float
    cpu: int
    cpu_model: str
    rounds: int
    disturbed: int

    @classmethod
    def of(cls, found: Mapping[str, Any], cpu_model: str) -> Measurement:
        """What the core measured (`_core.measure`), on a CPU of this model."""
        forms = {row["form"]: _form(row) for row in found["forms"]}
        checks = [Check(**check) for check in found["checks"]]
        rest = {item.name: found[item.name] for item in fields(cls) if item.name in found}
        return cls(**rest | {"forms": forms, "checks": checks, "cpu_model": cpu_model})

    def __getitem__(self, form: str) -> FormCost:
        return self.forms[form]

    def __iter__(self) -> Iterator[FormCost]:
        return iter(self.forms.values())

    def __len__(self) -> int:
        return len(self.forms)

    @property
    def trusted(self) -> bool:
        """Whether every check holds."""
        return all(check.holds for check in self.checks)

    @property
    def core_ghz(self) -> float:
        """The clock of the core while it was measured."""
        return self.cycles_per_tsc * self.tsc_hz / 1e9

    def document(self) -> dict[str, object]:
        """The JSON document, ``pvops.bench/1``."""
        return {
            "schema": "pvops.bench/1",
            "cpu_model": self.cpu_model,
            "cpu": self.cpu,
            "clock": self.clock,
            "clock_why": self.clock_why,
            "cycles_per_tsc": _number(self.cycles_per_tsc),
            "tsc_hz": _number(self.tsc_hz),
            "core_ghz": _number(self.core_ghz),
            "rounds": self.rounds,
            "disturbed": self.disturbed,
            "trusted": self.trusted,
            "ways": dict(WAYS),
            "checks": [{**c._asdict(), "measured": _number(c.measured)} for c in self.checks],
            "forms": [
                {**form.document(), "reference_cycles": _number(form.cycles / self.cycles_per_tsc)} for form in self
            ],
        }

    def _repr_html_(self) -> str:
        return show(self, "fragment")

    def plot(self, path: str) -> None:
        """Draws the forms into a file, ``.svg`` or ``.png``.

        Raises:
            InputError: no such format, or matplotlib (the extra ``plot``) is missing.
        """
        show(self, "plot", path=path)

    def __repr__(self) -> str:
        return f"<Measurement of {len(self)} forms on {self.cpu_model}>"


def measure(
    seconds: float = SECONDS, *, cpu: int | None = None, progress: Callable[[int, int], object] | None = None
) -> Measurement:
    """Measures every form.

    Where the machine was so disturbed that a check of the method fails, it is measured once more; `Measurement.trusted`
    says whether the checks hold in the end.

    Args:
        seconds: how long to measure; up to three times as long on a busy machine.
        cpu: the CPU to run on; the one this thread is on where none is given.
        progress: called between rounds with (milliseconds done, milliseconds asked for); an exception of it ends the
            measuring.

    Raises:
        ExecutionError: code made here may not run on this machine, the CPU is not there, or it is too busy.
    """
    import time

    began = time.monotonic()
    found = Measurement.of(_core.measure(seconds, cpu, None, progress), _cpu_model())
    if not found.trusted and time.monotonic() - began < 1.5 * seconds:
        found = Measurement.of(_core.measure(seconds, cpu, None, progress), _cpu_model())
    return found


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return "unknown CPU"


def _form(row: Mapping[str, Any]) -> FormCost:
    def code(text: str | None) -> bytes | None:
        return None if text is None else bytes.fromhex(text)

    return FormCost(
        form=row["form"],
        site=bytes.fromhex(row["site"]),
        text=row["text"],
        inlines=row["inlines"],
        native=code(row["native"]),
        stand_in=code(row["stand_in"]),
        ways={way: Range(**row[way]) for way in WAYS},
    )


def _number(value: float) -> float | None:
    """A number as JSON has them: no more digits than mean something."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
