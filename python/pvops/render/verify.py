"""The report of a verification, as a page with a picture of the whole text."""

from __future__ import annotations

from collections import Counter

from pvops.render import html
from pvops.render.terminal import spaced
from pvops.render.verify_text import inferred

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pvops.verify.report import Report, Unexplained

#: Bytes that one square of the picture stands for, and squares in a row.
PAGE, COLUMNS = 4096, 112
_SIDE = 9
#: So many runs are on the page; JSON has them all.
_MOST = 1000

#: What each table is painted in: told apart in light and dark, and by most who see colours differently.
_COLOURS = {
    "mcount": "#7a9cc6",
    "returns": "#4f9d8f",
    "retpolines": "#b0894f",
    "alternatives": "#9a6fb0",
    "paravirt": "#d98ab0",
    "static_calls": "#c9b037",
    "trampolines": "#e08a4a",
    "jump_labels": "#6f7fd0",
    "ibt": "#8a9a5b",
    "smp_locks": "#5fb0c9",
    "runtime_const": "#a07060",
    "call_sites": "#708090",
    "unlisted": "#505050",
}
_WRONG = "#d62020"


def page(report: Report) -> str:
    """The whole report as one self-contained page."""
    title = f"{report.kernel}: {report.verdict}"
    return html.page(title, _body(report, title))


def _body(report: Report, title: str) -> Iterator[str]:
    yield f"<h1>{html.text(title)}</h1>"
    where = f"{report.memory}, slide {report.slide:#x}; {', '.join(inferred(report))}"
    yield f'<p class="soft">{html.text(where)}</p>'
    changed = sum(report.explained.values())
    kind = "warn" if report.unexplained or report.unread else "runs"
    yield (
        f"<p>{report.size:,} bytes of text, {changed:,} changed and explained, "
        f'<strong class="{kind}">{report.wrong_bytes:,} unexplained</strong>, {report.unread_bytes:,} unread.</p>'
    )
    yield picture(report)
    yield _legend(report)
    for heading, runs in (("Unexplained", report.unexplained), ("Allowed", report.allowed)):
        if runs:
            yield f"<h2>{heading}</h2>"
            yield from (_run(run) for run in runs[:_MOST])
            if len(runs) > _MOST:
                yield f'<p class="warn">… and {len(runs) - _MOST:,} more runs</p>'
    if report.unread:
        yield "<h2>Unread</h2>"
        yield html.table(
            ("from", "bytes"), [(f"{start:016x}", f"{end - start:,}") for start, end in report.unread], ("mono", "n")
        )
    yield from _modules(report)
    yield from _inferred(report)
    yield "<h2>Not judged</h2>"
    rows = [(html.text(p.section), f"{p.address:016x}", f"{p.size:,}", html.text(p.why)) for p in report.not_judged]
    yield html.table(("section", "address", "bytes", "why"), rows, ("mono", "mono", "n", ""))


def _modules(report: Report) -> Iterator[str]:
    if report.not_listed is not None:
        yield f'<p class="soft">Modules could not be listed: {html.text(report.not_listed)}</p>'
    if not report.modules:
        return
    yield "<h2>Modules</h2>"
    rows = []
    for module in report.modules:
        said = html.text(f"not judged: {module.why}")
        if module.judged:
            kind = "warn" if module.unexplained or module.unread else "runs"
            said = f'<span class="{kind}">{module.wrong_bytes:,} unexplained, {module.unread_bytes:,} unread</span>'
        rows.append((html.text(module.name), f"{module.address:016x}", f"{module.size:,}", said))
    yield html.table(("module", "address", "bytes of text", "verdict"), rows, ("mono", "mono", "n", ""))
    for module in report.modules:
        runs = [*module.unexplained, *module.allowed]
        yield from (_run(run) for run in runs[:_MOST])
        if len(runs) > _MOST:
            yield f'<p class="warn">… and {len(runs) - _MOST:,} more runs in {html.text(module.name)}</p>'


def picture(report: Report) -> str:
    """The text as squares of a page each, painted by what changed most of it; what is unexplained is ringed."""
    count = -(-report.size // PAGE)
    rows = -(-count // COLUMNS)
    painted: list[Counter[str]] = [Counter() for _ in range(count)]
    for address, length, table in report.spans:
        painted[min((address - report.address) // PAGE, count - 1)][table] += length
    densest = max((sum(tables.values()) for tables in painted), default=0) or 1
    width, height = COLUMNS * _SIDE, rows * _SIDE
    out = [
        f'<svg viewBox="-2 -2 {width + 4} {height + 4}" role="img" style="width:100%;height:auto" '
        f'aria-label="the text, {PAGE} bytes a square">',
        f'<rect width="{width}" height="{height}" fill="none" stroke="currentColor" stroke-opacity=".25"/>',
    ]
    for at, tables in enumerate(painted):
        if tables:
            table, _ = tables.most_common(1)[0]
            # Pages differ a hundredfold: the root keeps the thin ones in sight.
            depth = 0.15 + 0.85 * (sum(tables.values()) / densest) ** 0.5
            out.append(_square(at, _COLOURS.get(table, "#808080"), depth))
    for start, end in report.unread:
        for at in range((start - report.address) // PAGE, min(count, -(-(end - report.address) // PAGE))):
            x, y = at % COLUMNS * _SIDE, at // COLUMNS * _SIDE
            out.append(f'<path d="M{x} {y}l{_SIDE} {_SIDE}m0 {-_SIDE}l{-_SIDE} {_SIDE}" stroke="currentColor"/>')
    for at in sorted({(run.address - report.address) // PAGE for run in report.unexplained}):
        cx, cy = at % COLUMNS * _SIDE + _SIDE / 2, at // COLUMNS * _SIDE + _SIDE / 2
        title = f"<title>{report.address + at * PAGE:#x}</title>"
        out.append(f'<rect x="{cx - 2}" y="{cy - 2}" width="4" height="4" fill="{_WRONG}"/>')
        out.append(f'<circle cx="{cx}" cy="{cy}" r="7" fill="none" stroke="{_WRONG}" stroke-width="2">{title}</circle>')
    return "\n".join((*out, "</svg>"))


def _square(at: int, colour: str, depth: float) -> str:
    x, y = at % COLUMNS * _SIDE, at // COLUMNS * _SIDE
    side = _SIDE - 1
    return f'<rect x="{x}" y="{y}" width="{side}" height="{side}" fill="{colour}" fill-opacity="{depth:.2f}"/>'


def _legend(report: Report) -> str:
    rows = [
        (
            f'<svg width="14" height="14"><rect width="14" height="14" fill="{_COLOURS.get(table, "#808080")}"/></svg>',
            html.text(table),
            f"{bytes_:,}",
        )
        for table, bytes_ in sorted(report.explained.items(), key=lambda part: -part[1])
    ]
    circle = f'<circle cx="7" cy="7" r="5" fill="none" stroke="{_WRONG}" stroke-width="2"/>'
    ring = f'<svg width="14" height="14">{circle}</svg>'
    rows.append((ring, "unexplained", f"{report.wrong_bytes:,}"))
    sentence = (
        f"A square is {PAGE:,} bytes, painted by the table that changed most of it, the deeper the more it changed."
    )
    return f'<p class="soft">{sentence}</p>' + html.table(("", "table", "bytes"), rows, ("", "", "n"))


def _run(run: Unexplained) -> str:
    notes = [f"in a site of {run.table}" if run.table else "in code that no table names"]
    notes += [f"looks like {run.looks_like}"] if run.looks_like else []
    notes += [run.nearest] if run.nearest else []
    rows = [
        ("is", html.text(spaced(run.found[:32])), f'<span class="warn">{html.text(run.stands)}</span>'),
        ("should be", html.text(spaced(run.expected[:32])), f'<span class="runs">{html.text(run.should)}</span>'),
    ]
    return "\n".join(
        (
            '<div class="card">',
            f'<h3><span class="mono">{run.address:016x}</span> {html.text(run.symbol or "no symbol")}</h3>',
            html.table(("", "wrong bytes", f"at {run.site:x}"), rows, ("", "mono", "mono")),
            f'<p class="soft">{html.text("; ".join(notes))}</p>',
            "</div>",
        )
    )


def _inferred(report: Report) -> Iterator[str]:
    yield "<h2>What was inferred, and from how many sites</h2>"
    about: dict[str, list[tuple[str, str, str, str]]] = {}
    for vote in report.votes:
        against = f"{vote.against:,}" if vote.against else ""
        votes = "given" if vote.given else f"{vote.votes:,}"
        about.setdefault(vote.about, []).append((html.text(vote.name), html.text(vote.value), votes, against))
    for kind, rows in about.items():
        shown = html.table(("which", "value", "votes", "against"), rows, ("mono", "mono", "n", "n"))
        yield f"<details><summary>{html.text(kind)} <span class=soft>{len(rows):,}</span></summary>{shown}</details>"
