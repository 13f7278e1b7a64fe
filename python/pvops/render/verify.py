"""The report of a verification, as a page with a picture of the whole text."""

from __future__ import annotations

from pvops.render import html, verify_map
from pvops.render.terminal import spaced
from pvops.render.verify_text import inferred, voted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pvops.verify.report import Report, Unexplained

#: So many runs are on the page; JSON has them all.
_MOST = 1000


def page(report: Report, made: html.Made | None = None) -> str:
    """The whole report as one self-contained page."""
    title = f"{report.kernel}: {report.verdict}"
    return html.page(title, _body(report, title), made)


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
    yield verify_map.picture(report)
    yield verify_map.legend(report)
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
    yield html.table(("section", "address", "bytes", "why"), rows, ("mono", "mono", "n", "prose"))


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
    yield html.table(("module", "address", "bytes of text", "verdict"), rows, ("mono", "mono", "n", "prose"))
    for module in report.modules:
        runs = [*module.unexplained, *module.allowed]
        yield from (_run(run) for run in runs[:_MOST])
        if len(runs) > _MOST:
            yield f'<p class="warn">… and {len(runs) - _MOST:,} more runs in {html.text(module.name)}</p>'


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
            f'<h3 id="{verify_map.anchor(run.address)}"><span class="mono">{run.address:016x}</span> '
            f'{html.text(run.symbol or "no symbol")} <a class="soft" href="#map">map</a></h3>',
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
        about.setdefault(vote.about, []).append((html.text(vote.name), html.text(voted(vote)), votes, against))
    for kind, rows in about.items():
        shown = html.table(("which", "value", "votes", "against"), rows, ("mono", "mono", "n", "n"))
        yield f"<details><summary>{html.text(kind)} <span class=soft>{len(rows):,}</span></summary>{shown}</details>"
