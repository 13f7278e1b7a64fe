"""Simulated locks as a page: where the time of each case went, and what ran around a holder that lost its CPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pvops.lock import tables
from pvops.lock.published import Comparison, Row
from pvops.lock.simulate import PARTS, Result
from pvops.lock.sweeps import Section
from pvops.render import html

#: Colours that people who confuse red and green tell apart (Okabe and Ito); waiting is grey.
COLOURS = {"useful": "#009e73", "spin": "#d55e00", "blocked": "#56b4e9", "overhead": "#e69f00", "idle": "#999999"}
_SAID = {
    "useful": "thinks or holds the lock",
    "spin": "spins",
    "blocked": "blocked",
    "overhead": "switches, exits, kicks",
    "idle": "could run, and has no CPU",
}
_STATES = {"think": "#cfe3f2", "hold": COLOURS["useful"], "spin": COLOURS["spin"], "overhead": COLOURS["overhead"]}
_WIDTH, _ROW, _LEFT = 900, 26, 60
#: Stretches narrower than this many parts of the picture are joined with their neighbours.
_PARTS = 900

Simulated = Sequence[tuple[Section, Sequence[Result]]]


def page(
    simulated: Simulated,
    compared: Sequence[tuple[Comparison, Sequence[Row]]],
    around: Result | None,
    made: html.Made | None = None,
) -> str:
    """The whole page; `around` is a case recorded around a preempted holder."""
    return html.page("Locks, simulated", _body(simulated, compared, around), made)


def _body(
    simulated: Simulated, compared: Sequence[tuple[Comparison, Sequence[Row]]], around: Result | None
) -> Iterator[str]:
    yield "<h1>Locks, simulated</h1>"
    yield "<p>Where the time of the virtual CPUs went:</p>" + _legend({COLOURS[part]: _SAID[part] for part in PARTS})
    for section, results in simulated:
        yield f"<h2>{html.text(section.title)}</h2>"
        heading, *rows = tables.cells(section, results)
        keys = len(section.columns)
        shown = [
            [*map(html.text, row[:keys]), _bar(result), *map(html.text, row[keys:])]
            for row, result in zip(rows, results, strict=True)
        ]
        classes = (*["key"] * keys, "", *["n"] * (len(heading) - keys))
        yield html.table((*heading[:keys], "time", *heading[keys:]), shown, classes)
    if around is not None:
        yield from _gantt(around)
    for comparison, lines in compared:
        yield f"<h2>{html.text(comparison.title)}</h2>"
        heading, *rows = tables.compared_cells(lines)
        yield html.table(heading, [list(map(html.text, row)) for row in rows], ("", "n", "n", ""))
        source, differs = html.text(comparison.source), html.text(comparison.differs)
        yield f'<p class="soft">Source: {source}. Does not match: {differs}</p>'


def _legend(said: dict[str, str]) -> str:
    squares = (
        f'<span class="key"><svg width="12" height="12"><rect width="12" height="12" fill="{colour}"/></svg> '
        f"{html.text(what)}</span>"
        for colour, what in said.items()
    )
    return f'<p class="soft">{" &ensp; ".join(squares)}</p>'


def _bar(result: Result) -> str:
    """One case's time as a bar; a share can be read when it is pointed at."""
    parts = {part: getattr(result, part) for part in PARTS}
    total = sum(parts.values()) or 1.0
    shares = ", ".join(f"{_SAID[part]} {seconds / total:.1%}" for part, seconds in parts.items())
    out, at = [f'<svg width="160" height="12" role="img"><title>{shares}</title>'], 0.0
    for part, seconds in parts.items():
        width = 160 * seconds / total
        title = f"<title>{_SAID[part]}: {seconds / total:.1%}</title>"
        out.append(f'<rect x="{at:.1f}" width="{width:.1f}" height="12" fill="{COLOURS[part]}">{title}</rect>')
        at += width
    return "".join((*out, "</svg>"))


def _gantt(result: Result) -> Iterator[str]:
    """What ran on each physical CPU around the holder that was preempted, as wide as it takes to be read."""
    found, spans = result.preempted, [span for span in result.spans if span.pcpu is not None]
    if found is None or not spans:
        return
    case = result.case
    start, end = min(span.start for span in spans), max(span.end for span in spans)
    scale = (_WIDTH - _LEFT) / (end - start)

    def x(time: int) -> float:
        return _LEFT + (time - start) * scale

    height = 34 + _ROW * case.pcpus + 22
    out = [f'<svg viewBox="0 0 {_WIDTH} {height}" width="100%" role="img" font-size="13" fill="currentColor">']
    out.append("<title>What ran on each physical CPU</title>")
    for pcpu in range(case.pcpus):
        top = 30 + _ROW * pcpu
        out.append(f'<text x="0" y="{top + 15}">CPU {pcpu}</text>')
        for state, colour in _STATES.items():
            stretches = sorted((s.start, s.end) for s in spans if s.state == state and s.pcpu == pcpu)
            path = "".join(
                f"M{x(a):.1f} {top}h{max((b - a) * scale, 0.6):.1f}v{_ROW - 6}h-{max((b - a) * scale, 0.6):.1f}z"
                for a, b in _joined(stretches, (end - start) // _PARTS)
            )
            out.append(f'<path d="{path}" fill="{colour}"/>' if path else "")
        theirs = sorted((s.start, s.end) for s in spans if s.vcpu == found.vcpu and s.pcpu == pcpu)
        for a, b in _joined(theirs, (end - start) // _PARTS):
            box = f'x="{x(a):.1f}" y="{top - 2}" width="{(b - a) * scale:.1f}" height="{_ROW - 2}"'
            out.append(f'<rect {box} fill="none" stroke="currentColor" stroke-width="2"/>')
    lost = x(found.at)
    bottom = 30 + _ROW * case.pcpus
    out.append(f'<path d="M{lost:.1f} 16V{bottom}" stroke="currentColor" stroke-dasharray="4 3"/>')
    anchor = "end" if lost > _WIDTH / 2 else "start"
    out.append(f'<text x="{lost:.1f}" y="13" text-anchor="{anchor}">it loses its CPU, with the lock</text>')
    milliseconds = (end - start) / 1e9
    out.append(f'<text x="{_LEFT}" y="{bottom + 16}" opacity=".7">0</text>')
    out.append(
        f'<text x="{_WIDTH}" y="{bottom + 16}" text-anchor="end" opacity=".7">{milliseconds:.3g} ms</text></svg>'
    )
    name = f"{case.protocol}: {case.vcpus} virtual CPUs on {case.pcpus}, one holder preempted"
    yield f"<h2>{html.text(name)}</h2>"
    said = {_STATES["think"]: "thinks", _STATES["hold"]: "holds the lock", _STATES["spin"]: "spins"}
    yield _legend({**said, _STATES["overhead"]: "switch, exit or kick"})
    yield f'<p class="soft">Framed: virtual CPU {found.vcpu}, which held the lock.</p>'
    yield html.wide("".join(out), name)


def _joined(stretches: Sequence[tuple[int, int]], gap: int) -> Iterator[tuple[int, int]]:
    """Stretches, with those that are too close to be told apart joined."""
    last: tuple[int, int] | None = None
    for start, end in stretches:
        if last is not None and start - last[1] <= gap:
            last = (last[0], max(end, last[1]))
        else:
            if last is not None:
                yield last
            last = (start, end)
    if last is not None:
        yield last
