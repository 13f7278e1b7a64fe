"""``pvops lock simulate``: virtual CPUs that share locks."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pvops.cli import output, pages
from pvops.errors import LockError, nearest
from pvops.lock import pictures, published, sweeps, tables
from pvops.lock.simulate import PROTOCOLS, USUAL, Case, Distribution, Result, around_preempted_holder, sweep
from pvops.progress import Bar
from pvops.render import terminal

_TIMES = ("think", "hold", "irq_interval", "irq_hold")
_NAMED = {"protocol": tuple(PROTOCOLS), "scheduler": ("round-robin", "credit", "gang")}
_OPTIONAL = ("threshold_us", "ple_us")
#: More cases than anybody waits for.
_MOST_CASES = 10_000


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    if args.jobs is not None and args.jobs < 1:
        raise LockError(f"jobs: {args.jobs}, where at least 1 is needed")
    page = pages.wanted(args)
    for path in _plots(args):
        pictures.kind_of(path)
        output.writable(path)
    asked = _asked(args)
    sections = sweeps.standard() if asked is None else [asked]
    compared = published.comparisons() if asked is None else []
    cases = [case for section in sections for case in section.cases]
    cases += [case for comparison in compared for case in comparison.cases.values()]
    results = iter(_simulated(cases, args.jobs))
    simulated = [(section, list(itertools.islice(results, len(section.cases)))) for section in sections]
    beside = [(c, published.compared(c, list(itertools.islice(results, len(c.cases))))) for c in compared]
    _draw(args, simulated)
    if page:
        _write_page(args, simulated, beside)
    rows = [{"section": section.name, **r.to_dict()} for section, found in simulated for r in found]
    if args.format_ == "json":
        output.print_json({"schema": "pvops.lock_simulate/1", "cases": rows, "comparisons": _documents(beside)})
    elif args.format_ != "text":
        output.print_rows(args.format_, _flat(rows) if args.format_ == "csv" else rows, list(_flat(rows)[0]))
    elif pages.text_too(args):
        style = terminal.Style(args.color)
        parts = [[style.bold(section.title), *_table(section, found)] for section, found in simulated]
        parts += [[style.bold(c.title), *_comparison(c, lines, style)] for c, lines in beside]
        output.print_lines([line for part in parts for line in ("", *part)][1:])
    return 0


# What is asked


def _asked(args: argparse.Namespace) -> sweeps.Section | None:
    """The cases of the options, in all combinations; None where there is no option."""
    fields = [field.name for field in dataclasses.fields(Case) if field.name != "_"]
    given = {name: _values(name, getattr(args, name)) for name in fields if getattr(args, name) is not None}
    if not given:
        return None
    given.setdefault("protocol", list(PROTOCOLS))
    count = 1
    for values in given.values():
        count *= len(values)
    if count > _MOST_CASES:
        raise LockError(f"these options make {count} cases, and more than {_MOST_CASES} are too many")
    cases = [Case(**dict(zip(given, values, strict=True))) for values in itertools.product(*given.values())]
    varied = [name for name, values in given.items() if len(values) > 1]
    return sweeps.Section(
        "asked", _title(cases[0], given), ("protocol", *(n for n in varied if n != "protocol")), cases
    )


def _values(name: str, words: Sequence[Any]) -> list[Any]:
    if name == "protocol" and "all" in words:
        return list(PROTOCOLS)
    for word in words if name in _NAMED else ():
        if word not in _NAMED[name]:
            hint = nearest(str(word), _NAMED[name])
            raise LockError(f'{name}: "{word}" is none of {", ".join(_NAMED[name])}{hint}')
    if name in _TIMES:
        return [Distribution.parse(name, str(word)) for word in words]
    if name in _OPTIONAL:
        return [_time(name, str(word)) for word in words]
    return list(words)


def _time(name: str, word: str) -> object:
    if word == "never":
        return None
    if word == "usual" and name == "threshold_us":
        return USUAL
    try:
        return float(word)
    except ValueError:
        raise LockError(f"{name}: {word!r} is not a time in µs") from None


def _title(case: Case, given: Mapping[str, Sequence[object]]) -> str:
    """What all cases have in common."""
    names = ("vcpus", "pcpus", "vms", "locks", "scheduler", "think", "hold", "slice_us")
    same = [f"{name} {_word(getattr(case, name))}" for name in names if len(given.get(name, "1")) == 1]
    return f"simulated: {', '.join(same)}"


def _word(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _simulated(cases: Sequence[Case], jobs: int | None) -> list[Result]:
    with Bar("cases simulated:") as bar:
        if jobs is None:
            return sweep(cases, progress=bar)
        from pvops.processes import pool

        with pool(max(1, min(jobs, len(cases)))) as executor:
            return sweep(cases, executor=executor, progress=bar)


# What is shown


def _table(section: sweeps.Section, results: Sequence[Result]) -> list[str]:
    rows = tables.cells(section, results)
    keys = len(section.columns)
    words = {i for i, name in enumerate(section.columns) if name in ("protocol", "scheduler")}
    lines = terminal.table(rows, right=[i for i in range(len(rows[0])) if i not in words or i >= keys])
    return [f"  {line}" for line in lines]


def _comparison(comparison: published.Comparison, rows: Sequence[published.Row], style: terminal.Style) -> list[str]:
    lines = [f"  {line}" for line in terminal.table(tables.compared_cells(rows), right=[1, 2], before=2)]
    return [f"  source: {comparison.source}", *lines, *_wrapped(f"does not match: {comparison.differs}", style.dim)]


def _wrapped(text: str, style: Callable[[str], str]) -> list[str]:
    import textwrap

    return [f"  {style(line)}" for line in textwrap.wrap(text, 110)]


def _documents(beside: Iterable[tuple[published.Comparison, Sequence[published.Row]]]) -> list[dict[str, object]]:
    return [
        {
            "name": comparison.name,
            "title": comparison.title,
            "source": comparison.source,
            "does_not_match": comparison.differs,
            "rows": [dataclasses.asdict(row) for row in rows],
        }
        for comparison, rows in beside
    ]


def _flat(rows: Sequence[dict[str, object]]) -> list[dict[str, object]]:
    """Rows without documents in them, for CSV."""
    flat = []
    for row in rows:
        line: dict[str, object] = {}
        for name, value in row.items():
            if isinstance(value, dict):
                line |= {key if name == "waits" else f"{name}_{key}": inner for key, inner in value.items()}
            else:
                line[name] = value
        flat.append(line)
    return flat


# What is drawn


def _plots(args: argparse.Namespace) -> list[str]:
    return [path for path in (args.plot, args.plot_waits, args.plot_gantt) if path is not None]


def _draw(args: argparse.Namespace, simulated: Sequence[tuple[sweeps.Section, list[Result]]]) -> None:
    if not _plots(args):
        return
    first = simulated[0][1]
    if args.plot is not None:
        pictures.save(pictures.throughput(first), args.plot)
    if args.plot_waits is not None:
        most = max(r.case.vcpus for r in first)
        shown = [r for r in first if r.case.vcpus == 2 * r.case.pcpus] or [r for r in first if r.case.vcpus == most]
        pictures.save(pictures.waits(shown), args.plot_waits)
    if args.plot_gantt is not None:
        pictures.save(pictures.gantt(around_preempted_holder(_overcommitted(first))), args.plot_gantt)
    for path in _plots(args):
        output.note(f"drawn: {path}")


def _overcommitted(results: Sequence[Result]) -> Case:
    """The first case with fewer physical CPUs than virtual ones."""
    return next((r.case for r in results if r.case.vcpus > r.case.pcpus), results[0].case)


def _write_page(
    args: argparse.Namespace,
    simulated: Sequence[tuple[sweeps.Section, list[Result]]],
    beside: Sequence[tuple[published.Comparison, Sequence[published.Row]]],
) -> None:
    from pvops.render import lock_simulate_page

    try:
        around = around_preempted_holder(_overcommitted(simulated[0][1]))
    except LockError:  # no holder was preempted: there is no such picture
        around = None
    count = sum(len(found) for _, found in simulated)
    pages.write(args, lock_simulate_page.page(simulated, beside, around, pages.made(args)), f"{count} cases")
