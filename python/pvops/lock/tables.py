"""Simulations as tables of text: a heading and rows."""

from __future__ import annotations

from collections.abc import Sequence

from pvops.lock.published import Row
from pvops.lock.simulate import Result
from pvops.lock.sweeps import Section

#: What a column of a section is called, where not as the parameter.
_NAMES = {"threshold_us": "threshold, µs", "ple_us": "PLE after, µs", "irq_interval": "interrupts", "vcpus": "vCPUs"}


def microseconds(value: float | None) -> str:
    """A time as people read it."""
    if value is None:
        return "-"
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g} µs"


def _shown(value: object) -> str:
    if value is None:
        return "never"
    return f"{value:g}" if isinstance(value, float) else str(value)


def cells(section: Section, results: Sequence[Result]) -> list[list[str]]:
    """A section: what varies, then what came of it. Throughput is also told relative to the first row's."""
    first = results[0].throughput
    keys = [_NAMES.get(name, name.removesuffix("_us").replace("_", " ")) for name in section.columns]
    rows = [[*keys, "locks/s", "relative", "spinning", "kicks", "median wait", "99.9 %", "longest", "fairness"]]
    for result in results:
        case = result.case
        values = [result.threshold_us if name == "threshold_us" else getattr(case, name) for name in section.columns]
        rows.append(
            [
                *map(_shown, values),
                f"{result.throughput:,.0f}",
                f"{result.throughput / first:.4g}" if first else "-",
                f"{result.spinning:.1%}",
                f"{result.counters['kicks']:,}",
                microseconds(result.p50_us),
                microseconds(result.p999_us),
                microseconds(result.max_us),
                "-" if result.fairness is None else f"{result.fairness:.2f}",
            ]
        )
    return rows


def compared_cells(rows: Sequence[Row]) -> list[list[str]]:
    """A comparison with published figures."""
    table = [["", "published", "simulated", ""]]
    return table + [[row.what, row.published, row.simulated, row.verdict] for row in rows]
