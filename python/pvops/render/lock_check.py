"""What the lock checker found, as text: a table of cases, and runs with a column for each thread."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pvops.lock.check import MOST_ACQUISITIONS, Check
from pvops.render.terminal import Style, table

#: The columns of the table.
HEADINGS = ("protocol", "mutant", "scenario", "threads", "slots", "acquire", "states", "outcome")


def report(rows: Sequence[Check], style: Style, *, traces: bool) -> Iterator[str]:
    """The table, what is not as it should be, and the runs if they are wanted."""
    heading = list(HEADINGS)
    lines = table([heading, *map(cells, rows)], right=(3, 4, 5, 6))
    yield style.bold(lines[0]) if lines else ""
    yield from lines[1:]
    unexpected = [row for row in rows if not row.as_expected]
    yield ""
    if unexpected:
        yield f"{len(unexpected)} of {len(rows)} not as expected"
    else:
        sound = sum(row.mutant is None for row in rows)
        caught = sum(row.caught for row in rows)
        few = "mutants on fewer threads or acquisitions than their bug needs"
        counts = {"cases that hold in every state": sound, "mutants caught": caught, few: len(rows) - sound - caught}
        yield "; ".join(f"{what}: {count}" for what, count in counts.items() if count) or "nothing to check"
    for row in rows:
        if traces and row.trace:
            yield ""
            yield from run(row, style)


def cells(row: Check) -> list[str]:
    """A row of the table."""
    if row.violation is not None:
        outcome = f"{row.violation} in {len(row.trace)} steps"
    else:
        outcome = "holds" if row.finished else "not finished"
        outcome += f": the bug needs {_needed(row)}" if row.finished and row.too_few else ""
    if not row.as_expected:
        outcome += "  <-- not as expected"
    return [
        row.protocol,
        row.mutant or "-",
        row.scenario,
        str(row.threads),
        "-" if row.slots is None else str(row.slots),
        "ever" if row.acquisitions is None else str(row.acquisitions),
        f"{row.states:,}",
        outcome,
    ]


def _needed(row: Check) -> str:
    """What a mutant that held had too few of."""
    if row.too_few_threads:
        return f"{row.needs} threads"
    needed = row.needs_acquisitions
    return f"{needed if needed != MOST_ACQUISITIONS + 1 else f'over {MOST_ACQUISITIONS}'} acquisitions of each thread"


def run(row: Check, style: Style) -> Iterator[str]:
    """A run: a column for each thread, then memory where it changed, then what is in store buffers."""
    name = f"{row.protocol}, {row.mutant}" if row.mutant else row.protocol
    yield style.bold(f"{name}: the shortest run to {row.violation}")
    rendered = table(steps(row), right=(0,))
    yield style.dim(rendered[0])
    yield from rendered[1:]
    yield f"=> {row.what}"


def steps(row: Check) -> list[list[str]]:
    """A run as rows of cells, their headings first."""
    active = sorted({event.thread for event in row.trace})
    lines = [["", *(f"T{thread}" for thread in active), "memory", "store buffers"]]
    before: dict[str, int] = {}
    for number, event in enumerate(row.trace, 1):
        changed = [f"{k}={v}" for k, v in event.memory.items() if v != before.get(k, 0)]
        before = dict(event.memory)
        buffers = [
            f"T{thread}: " + ", ".join(f"{place}={value}" for place, value in buffer)
            for thread, buffer in enumerate(event.buffers)
            if buffer
        ]
        taken = [event.text if thread == event.thread else "" for thread in active]
        lines.append([str(number), *taken, " ".join(changed), "; ".join(buffers)])
    return lines
