"""Runs of guests as a page: tables, and hypercalls on a timeline, with lazy mode and without."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pvops.render import html
from pvops.render.run import lazy_pairs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.emulate.session import Result

_WIDTH, _HEIGHT, _LEFT = 900, 46, 130
#: The most marks one line of a timeline gets: more could not be told apart.
_MARKS = 1500


def page(results: Sequence[Result], wrong: Sequence[str], made: html.Made | None = None) -> str:
    """The whole page."""
    return html.page("Guests that ran", _body(results, wrong), made)


def _body(results: Sequence[Result], wrong: Sequence[str]) -> Iterator[str]:
    yield "<h1>Guests that ran</h1>"
    yield "<p class='soft'>One kernel image for all backends of an era; its calls of ops are patched for each.</p>"
    if wrong:
        yield f"<p class='warn'>{html.bullets(wrong)}</p>"
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.guest, result.era), []).append(result)
    for (guest, era), group in groups.items():
        yield f"<h2>{html.text(guest)} <span class='soft'>{html.text(era)}</span></h2>"
        yield _costs(group)
        yield _savings(group)
        yield from _timelines(group)
        yield _forms(group)


def _costs(group: Sequence[Result]) -> str:
    headings = (
        "backend",
        "patched",
        "lazy",
        "instructions",
        "indirect calls",
        "hypercalls",
        "queued",
        "batches",
        "state",
    )
    rows = []
    for r in group:
        counts = (r.instructions, r.indirect_calls, sum(r.hypercalls.values()), sum(r.queued.values()), r.batches)
        state = html.code(r.final_state[:12]) if r.final_state else html.text(f"{r.stop.kind}: {r.stop.why}")
        cells = [html.text(r.backend), "yes" if r.patched else "no", "yes" if r.lazy else "no"]
        rows.append([*cells, *(f"{n:,}" for n in counts), state])
    return html.table(headings, rows, ("key", "", "", "n", "n", "n", "n", "n", ""))


def _savings(group: Sequence[Result]) -> str:
    rows = [
        [html.text(backend), f"{eager:,}", f"{lazy:,}", f"1 : {eager / lazy:.1f}"]
        for backend, eager, lazy in lazy_pairs(group)
    ]
    if not rows:
        return ""
    return html.table(("backend", "hypercalls", "with lazy mode", "ratio"), rows, ("key", "n", "n", "n"))


def _timelines(group: Sequence[Result]) -> Iterator[str]:
    """A picture a backend: each hypercall a mark where it was made, over instructions executed."""
    for backend in dict.fromkeys(r.backend for r in group):
        runs = [r for r in group if r.backend == backend and r.patched and r.events]
        if runs:
            yield f"<h3>{html.text(backend)}: hypercalls over instructions executed</h3>"
            yield html.wide(timeline(runs), f"{backend}: hypercalls")


def timeline(runs: Sequence[Result]) -> str:
    """The picture, as SVG: a line a run; tall marks are traps, short ones calls that came in a batch."""
    end = max(max(r.instructions for r in runs), 1)
    height = _HEIGHT * len(runs) + 26
    out = [
        f'<svg viewBox="0 0 {_WIDTH} {height}" width="100%" role="img" font-size="12" font-family="sans-serif" '
        'fill="currentColor" stroke="none"><title>Hypercalls over instructions executed</title>'
    ]
    for i, run in enumerate(sorted(runs, key=lambda r: r.lazy)):
        base = _HEIGHT * i + 34
        total = sum(run.hypercalls.values())
        out.append(f'<text x="0" y="{base - 10}">{"lazy" if run.lazy else "not lazy"}</text>')
        out.append(f'<text x="0" y="{base + 4}" opacity=".65">{total:,} hypercalls</text>')
        out.append(f'<path d="M{_LEFT} {base}H{_WIDTH}" stroke="currentColor" stroke-opacity=".3" fill="none"/>')
        for queued, color, tall in ((True, "#3a9d5d", 10), (False, "#c0492f", 24)):
            out.append(_marks([e.at for e in run.events if e.queued is queued], end, base, tall, color))
    out.append(f'<text x="{_LEFT}" y="{height - 4}" opacity=".65">0</text>')
    label = f"{end:,} instructions"
    out.append(f'<text x="{_WIDTH}" y="{height - 4}" text-anchor="end" opacity=".65">{label}</text></svg>')
    return "\n".join(out)


def _marks(times: Sequence[int], end: int, base: int, tall: int, color: str) -> str:
    """Marks of one kind as one path; those that fall on one place are one."""
    places = sorted({round(_LEFT + (_WIDTH - _LEFT) * t / end * 1.0, 1) for t in times})[:_MARKS]
    path = "".join(f"M{x} {base}v-{tall}" for x in places)
    return f'<path d="{path}" stroke="{color}" stroke-width="1" fill="none"/>' if path else ""


def _forms(group: Sequence[Result]) -> str:
    """What the sites of each op became, backend by backend."""
    patched = {r.backend: r for r in group if r.patched}
    ops = sorted({op for r in patched.values() for op in r.forms})
    alike: dict[tuple[str, ...], list[str]] = {}
    for backend, result in patched.items():
        alike.setdefault(tuple(result.forms.get(op, "") for op in ops), []).append(backend)
    rows = [[html.code(op), *(html.text(forms[i]) for forms in alike)] for i, op in enumerate(ops)]
    table = html.table(("op", *map(", ".join, alike.values())), rows)
    return f"<details><summary>What its sites became</summary>{table}</details>" if rows else ""
