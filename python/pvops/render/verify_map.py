"""The picture of a whole text, as a verification found it: a square a page, and a legend of all that is in it."""

from __future__ import annotations

from collections import Counter

from pvops.render import html

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pvops.verify.report import Report

#: Bytes that one square stands for, and squares in a row.
PAGE, COLUMNS = 4096, 128
_SIDE = 9
#: Rows from one address at the edge to the next, and the room for them.
_AXIS, _LEFT = 4, 150

#: What each table is painted in: colours that people who confuse some tell apart (Okabe and Ito) ...
_COLOURS = {
    "returns": "#009e73",
    "mcount": "#56b4e9",
    "alternatives": "#cc79a7",
    "paravirt": "#e69f00",
    "static_calls": "#0072b2",
    "retpolines": "#d55e00",
    "jump_labels": "#b8a900",
}
#: ... and the same hatched.
_HATCHED = {
    "call_sites": "#009e73",
    "smp_locks": "#56b4e9",
    "ibt": "#cc79a7",
    "runtime_const": "#e69f00",
    "trampolines": "#0072b2",
    "cfi": "#d55e00",
    "unlisted": "#808080",
}
_OTHER = "#808080"
_RING = 'fill="none" stroke="currentColor" stroke-width="2"'


def anchor(address: int) -> str:
    """The name of a run's place on the page, which the picture links to."""
    return f"a{address:x}"


def picture(report: Report) -> str:
    """The text as squares of a page each, painted by what changed most of it; a ring leads to what is unexplained."""
    count = -(-report.size // PAGE)
    rows = -(-count // COLUMNS)
    width, height = _LEFT + COLUMNS * _SIDE, rows * _SIDE
    out = [
        '<div class="wide" id="map" tabindex="0" role="group" aria-label="map of the text">'
        f'<svg viewBox="-2 -18 {width + 4} {height + 38}" role="group" width="100%" '
        f'font-size="12" font-family="ui-monospace, monospace" fill="currentColor" '
        f'aria-label="the text, {PAGE} bytes a square"><defs>{"".join(_patterns())}</defs>',
        f'<text x="{_LEFT}" y="-6" opacity=".7">.text, {report.size:,} bytes; a row is {COLUMNS * PAGE:#x}</text>',
        f'<rect x="{_LEFT}" width="{width - _LEFT}" height="{height}" fill="none" stroke="currentColor" '
        'stroke-opacity=".25"/>',
    ]
    for row in range(0, rows, _AXIS):
        address = f"{report.address + row * COLUMNS * PAGE:x}"
        out.append(f'<text x="{_LEFT - 6}" y="{row * _SIDE + 9}" text-anchor="end" opacity=".7">{address}</text>')
    end = f"{report.address + report.size:x}"
    out.append(f'<text x="{_LEFT - 6}" y="{height + 14}" text-anchor="end" opacity=".7">{end}</text>')
    out += _squares(report, count)
    for start, end_ in report.unread:
        first, last = (start - report.address) // PAGE, -(-(end_ - report.address) // PAGE)
        out += (_cross(*_corner(at)) for at in range(first, min(count, last)))
    first_of: dict[int, int] = {}
    for run in (*report.unexplained, *report.allowed):
        first_of.setdefault((run.address - report.address) // PAGE, run.address)
    for at, first_run in sorted(first_of.items()):
        x, y = _corner(at)
        ring = (
            f'<circle cx="{x + _SIDE / 2}" cy="{y + _SIDE / 2}" r="7" {_RING} fill-opacity="0" pointer-events="all"/>'
        )
        out.append(f'<a href="#{anchor(first_run)}"><title>{first_run:#x}</title>{ring}</a>')
    return "\n".join((*out, "</svg></div>"))


def _squares(report: Report, count: int) -> Iterator[str]:
    painted: list[Counter[str]] = [Counter() for _ in range(count)]
    for address, length, table in report.spans:
        painted[min((address - report.address) // PAGE, count - 1)][table] += length
    densest = max((sum(tables.values()) for tables in painted), default=0) or 1
    for at, tables in enumerate(painted):
        if tables:
            table, _ = tables.most_common(1)[0]
            # Pages differ a hundredfold: the root keeps the thin ones in sight.
            depth = 0.25 + 0.75 * (sum(tables.values()) / densest) ** 0.5
            x, y = _corner(at)
            box = f'x="{x}" y="{y}" width="{_SIDE - 1}" height="{_SIDE - 1}"'
            yield f'<rect {box} fill="{_fill(table)}" fill-opacity="{depth:.2f}"/>'


def _corner(at: int) -> tuple[int, int]:
    return _LEFT + at % COLUMNS * _SIDE, at // COLUMNS * _SIDE


def _cross(x: int, y: int) -> str:
    return f'<path d="M{x} {y}l{_SIDE} {_SIDE}m0 {-_SIDE}l{-_SIDE} {_SIDE}" stroke="currentColor"/>'


def _fill(table: str) -> str:
    return f"url(#hatched-{table})" if table in _HATCHED else _COLOURS.get(table, _OTHER)


def _patterns() -> Iterator[str]:
    for table, colour in _HATCHED.items():
        yield (
            f'<pattern id="hatched-{table}" width="4" height="4" patternUnits="userSpaceOnUse">'
            f'<path d="M-1 1l2 -2M0 4l4 -4M3 5l2 -2" stroke="{colour}" stroke-width="1.6"/></pattern>'
        )


def legend(report: Report) -> str:
    """What each tint, ring and cross of the picture is."""
    rows = [
        (_key(f'<rect width="14" height="14" fill="{_fill(table)}"/>'), html.text(table), f"{bytes_:,}")
        for table, bytes_ in sorted(report.explained.items(), key=lambda part: -part[1])
    ]
    frame = '<rect x=".5" y=".5" width="13" height="13" fill="none" stroke="currentColor" stroke-opacity=".4"/>'
    rows.append((_key(frame), "as built", f"{report.size - sum(report.explained.values()) - report.wrong_bytes:,}"))
    ring = _key(f'<circle cx="7" cy="7" r="5" {_RING}/>')
    rows.append((ring, "unexplained; a ring leads to its entry", f"{report.wrong_bytes:,}"))
    if report.allowed:
        rows.append((ring, "allowed", f"{sum(len(run.found) for run in report.allowed):,}"))
    if report.unread:
        rows.append((_key(_cross(2, 2)), "unread", f"{report.unread_bytes:,}"))
    sentence = (
        f"A square is {PAGE:,} bytes, painted by the table that changed most of it, the deeper the more it changed."
    )
    return f'<p class="soft">{sentence}</p>' + html.table(("", "table", "bytes"), rows, ("", "", "n"))


def _key(drawn: str) -> str:
    return f'<svg width="14" height="14" fill="currentColor">{drawn}</svg>'
