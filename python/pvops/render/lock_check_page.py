"""What the lock checker found, as a page: the table of cases, and each run that breaks one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pvops.lock.check import Check
from pvops.render import html
from pvops.render.lock_check import HEADINGS, cells, steps


def page(rows: Sequence[Check], made: html.Made | None = None) -> str:
    """The whole page."""
    return html.page("Lock protocols, checked", _body(rows), made)


def _body(rows: Sequence[Check]) -> Iterator[str]:
    yield "<h1>Lock protocols, checked</h1>"
    wrong = [row for row in rows if not row.as_expected]
    sound = sum(row.mutant is None for row in rows)
    kind, said = ("warn", f"{len(wrong)} of {len(rows)} not as expected") if wrong else ("runs", "all as expected")
    yield f'<p><strong class="{kind}">{said}</strong>: {sound} sound protocols, {len(rows) - sound} mutants.</p>'
    said = "Every state that threads on x86-TSO can reach; a run is the shortest that breaks its case."
    yield f'<p class="soft">{said}</p>'
    table = []
    for at, row in enumerate(rows):
        *named, outcome = map(html.text, cells(row))
        shown = f'<a href="#run-{at}">{outcome}</a>' if row.trace else outcome
        table.append([*named, shown if row.as_expected else f'<span class="warn">{shown}</span>'])
    yield html.table(HEADINGS, table, ("key", "key", "", "n", "n", "n", "n", "key"))
    for at, row in enumerate(rows):
        if row.trace:
            name = f"{row.protocol}, {row.mutant}" if row.mutant else row.protocol
            summary = f'{html.text(name)} <span class="soft">{row.violation}</span>'
            yield f'<details id="run-{at}" open><summary>{summary}</summary>'
            heading, *taken = steps(row)
            run = [[html.text(cell) for cell in step] for step in taken]
            yield html.table(heading, run, ("n", *["mono"] * (len(heading) - 1)))
            yield f"<p>{html.text(row.what)}</p></details>"
