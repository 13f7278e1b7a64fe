"""A run as a page: beside each figure a bar as long as its ratio, on a logarithmic scale."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from math import ceil, floor, log10
from typing import Any

from support.figures import Pair, Since
from support.rounds import LIMIT, shown

from pvops.render import html

#: Pixels of a bar's picture; the margin is for the numbers of the scale.
WIDTH, HEIGHT, MARGIN = 340, 22, 22
FASTER, SLOWER, AGAINST_LIMIT = "#2f8fb3", "#c8553d", "#8a94a0"

_STYLE = """<style>
.bars { border-collapse: separate; border-spacing: 0; } .bars svg { display: block; overflow: visible; }
.bars td, .bars th { padding: 0 .9rem 0 0; border: 0; vertical-align: middle; }
.bars th { white-space: nowrap; } .bars th.job { padding-top: .7rem; color: var(--ink); }
.bars .name { min-width: 14rem; line-height: 1.3; } .bars .ours { padding-left: 1rem; }
.bars text { fill: var(--soft); font-size: 11px; text-anchor: middle; } .bars .grid { stroke: var(--line); }
.bars .one { stroke: var(--soft); } .bars .before { stroke: var(--ink); stroke-width: 2; } td.n { white-space: nowrap; }
.key { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin: 0 .3em 0 1em; }
</style>"""


def page(run: dict[str, Any], found: Sequence[Pair], since: Since | None) -> str:
    """The whole page; with an earlier run, its ratios are marked on the bars."""
    return html.page("Benchmarks of pvops", _body(run, found, since))


def _body(run: dict[str, Any], found: Sequence[Pair], since: Since | None) -> Iterator[str]:
    yield _STYLE
    yield "<h1>Benchmarks of pvops</h1>"
    about = f"{run['cpu']}, {run['date']}, Python {run['python']}, load {run['load']:.1f}"
    yield f'<p class="soft">{html.text(about)}</p>'
    compared = [(pair, ratio) for pair in found if (ratio := pair.ratio)]
    if compared:
        yield "<h2>How many times as long as the others</h2>"
        yield from _bars(compared, since)
    alone = [pair for pair in found if pair.other is None]
    if alone:
        yield "<h2>With nothing to compare</h2>"
        headings = ["job", "", "time"] + (["since"] if since else [])
        rows = [
            [html.text(pair.job), html.text(pair.ours.name), shown(pair.ours.seconds)]
            + ([change(since.ours(pair))] if since else [])
            for pair in alone
        ]
        yield html.table(headings, rows, ("", "", "n", "n")[: len(headings)])
    if run["missing"]:
        yield "<h2>Missing</h2>"
        yield html.bullets(run["missing"])


def _bars(compared: Sequence[tuple[Pair, float]], since: Since | None) -> Iterator[str]:
    before = [ratio for pair, _ in compared if since and (ratio := since.ratio(pair))]
    ratios = [ratio for _, ratio in compared] + before
    low, high = min(-1, floor(log10(min(ratios)))), max(1, ceil(log10(max(ratios))))

    def x(ratio: float) -> float:
        return MARGIN + (log10(ratio) - low) / (high - low) * (WIDTH - 2 * MARGIN)

    places = {power: f"{x(10.0**power):.1f}" for power in range(low, high + 1)}
    grid = "".join(
        f'<line class="{"grid" if power else "one"}" x1="{at}" x2="{at}" y2="{HEIGHT}"/>'
        for power, at in places.items()
    )
    size = f'<svg width="{WIDTH}" height="{HEIGHT}" role="img"'
    labels = "".join(
        f'<text x="{at}" y="15">{10.0**power:g}</text>'
        for power, at in places.items()
        if (power - low) % (1 + (high - low) // 8) == 0 or power == 0
    )
    keys = [(FASTER, "we take less"), (SLOWER, "we take more"), (AGAINST_LIMIT, "beside what no program can beat")]
    legend = "".join(f'<span class="key" style="background:{colour}"></span>{what}' for colour, what in keys)
    marks = "; the dark mark is the ratio of the earlier run" if before else ""
    yield f'<p class="soft">Ours over theirs, both of this run: {legend}{marks}.</p>'
    heads = ["ours", "compared with", "ours takes", "theirs", f"{size}>{labels}</svg>", "ratio"]
    heads += ["ours since"] if since else []
    yield '<div class="wide"><table class="bars">'
    yield "<thead><tr>" + "".join(f"<th>{head}</th>" for head in heads) + "</tr></thead>"
    for job, group in groupby(compared, key=lambda of: of[0].job):
        yield f'<tr><th class="job" colspan="{len(heads)}">{html.text(job)}</th></tr>'
        last = None
        for pair, ratio in group:
            assert pair.other is not None
            first, last = pair.ours.name != last, pair.ours.name
            colour = AGAINST_LIMIT if pair.other.role == LIMIT else FASTER if ratio < 1 else SLOWER
            start, end = sorted((x(1.0), x(ratio)))
            bar = f'<rect x="{start:.1f}" y="5" width="{max(end - start, 1):.1f}" height="12" fill="{colour}"/>'
            old = since.ratio(pair) if since else None
            if old:
                bar += f'<line class="before" x1="{x(old):.1f}" x2="{x(old):.1f}" y1="2" y2="20"/>'
            cells = [
                f'<td class="name ours">{html.text(pair.ours.name) if first else ""}</td>',
                f'<td class="name">{html.text(pair.other.name)}</td>',
                f'<td class="n">{shown(pair.ours.seconds) if first else ""}</td>',
                f'<td class="n">{shown(pair.other.seconds)}</td>',
                f'<td>{size} aria-label="{figure(ratio)}">{grid}{bar}</svg></td>',
                f'<td class="n">{figure(ratio)}</td>',
            ]
            if since:
                cells.append(f'<td class="n">{change(since.ours(pair)) if first else ""}</td>')
            yield f"<tr>{''.join(cells)}</tr>"
    yield "</table></div>"


def figure(ratio: float) -> str:
    """A ratio with as many digits as say something, never with an exponent."""
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.3g}" if ratio >= 0.001 else f"{ratio:.5f}"


def change(ratio: float | None) -> str:
    """What has changed, in per cent."""
    return "new" if ratio is None else f"{ratio - 1:+.0%}"
