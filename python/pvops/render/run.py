"""Runs of guests as text and as data; the page is in `pvops.render.run_page`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from pvops.render.run_figures import figures
from pvops.render.terminal import Style, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.emulate.session import Result

COLUMNS = (
    "guest",
    "era",
    "backend",
    "patched",
    "lazy",
    "instructions",
    "indirect_calls",
    "hypercalls",
    "queued",
    "batches",
    "final_state",
)


def document(results: Iterable[Result], wrong: Sequence[str]) -> Mapping[str, object]:
    """The JSON document, ``pvops.run/1``; `wrong` is what must not be."""
    return {"schema": "pvops.run/1", "runs": [_run(r) for r in results], "wrong": list(wrong)}


def _run(result: Result) -> dict[str, object]:
    out: dict[str, object] = {
        "guest": result.guest,
        "era": result.era,
        "bits": result.bits,
        "backend": result.backend,
        "patched": result.patched,
        "lazy": result.lazy,
        **figures(
            result,
            hypercalls=result.hypercalls,
            queued=result.queued,
            batches=result.batches,
            traps=result.traps,
        ),
    }
    if result.trace:
        out["trace"] = [{"op": c.op, "at": f"{c.at:#x}", "words": [f"{w:#x}" for w in c.words]} for c in result.trace]
    return out


def rows(results: Iterable[Result]) -> Iterator[Mapping[str, object]]:
    """A row a run, hypercalls and queued calls as totals."""
    for result in results:
        row = _run(result)
        yield {column: sum(v.values()) if isinstance(v := row[column], dict) else v for column in COLUMNS}


# Text


def lines(results: Sequence[Result], style: Style) -> Iterator[str]:
    """What a run costs, guest by guest and era by era, and what its hypercalls were."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.guest, result.era), []).append(result)
    for (guest, era), group in groups.items():
        yield style.bold(f"{guest}, {era}")
        cells = [["  backend", "patched", "lazy", "instructions", "indirect calls", "hypercalls", "queued", "batches"]]
        cells[0].append("final state")
        for r in group:
            counts = (r.instructions, r.indirect_calls, sum(r.hypercalls.values()), sum(r.queued.values()), r.batches)
            row = [f"  {r.backend}", _yes(r.patched), _yes(r.lazy), *(f"{n:,}" for n in counts)]
            cells.append([*row, r.final_state[:12] or f"{r.stop.kind}: {r.stop.why}"])
        yield from table(cells, right=range(3, 8))
        for r in group:
            if r.hypercalls and r.patched:
                yield style.dim(f"  {r.backend}{', lazy' if r.lazy else ''}: {_counts(r)}")
        for what in savings(group):
            yield f"  {what}"
        yield ""


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _counts(result: Result) -> str:
    """Traps with their numbers, most first, and what came in batches."""

    def listed(counts: Mapping[str, int]) -> str:
        most_first = sorted(counts.items(), key=lambda item: -item[1])
        numbers = {name: f" ({number})" for name, number in result.numbers.items()}
        return ", ".join(f"{name}{numbers.get(name, '')} {n:,}" for name, n in most_first)

    traps = listed(result.hypercalls)
    return f"{traps}; queued: {listed(result.queued)}" if result.queued else traps


def savings(group: Sequence[Result]) -> Iterator[str]:
    """What lazy mode saves, backend by backend: hypercalls with it and without."""
    for backend, eager, lazy in lazy_pairs(group):
        yield f"{backend}: {lazy:,} hypercalls with lazy mode for {eager:,} without, 1 : {eager / lazy:.1f}"


def lazy_pairs(group: Sequence[Result]) -> Iterator[tuple[str, int, int]]:
    """(backend, hypercalls without lazy mode, with it) of patched runs that made any."""
    totals = {(r.backend, r.lazy): sum(r.hypercalls.values()) for r in group if r.patched}
    for backend, lazy in totals:
        if lazy and totals.get((backend, False)) and totals[backend, True]:
            yield backend, totals[backend, False], totals[backend, True]


def trace_lines(result: Result) -> Iterator[str]:
    """Every call of an op, in order, with the three words that registers hold."""
    yield f"{result.guest}, {result.era}, {result.backend}, {'patched' if result.patched else 'as built'}"
    for call in result.trace:
        words = ", ".join(f"{word:#x}" for word in call.words)
        yield f"  {call.at:#x}  {call.op}({words})"
