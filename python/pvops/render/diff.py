"""Two boots compared, as text, as data and as a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pvops.render import html
from pvops.render.explain_text import wrapped
from pvops.render.terminal import Style, hex_address, spaced, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.plan.diff import Comparison, Difference, Group, Side
    from pvops.plan.plan import Plan
    from pvops.progress import Bar

COLUMNS = (
    "address",
    "section",
    "symbol",
    "table",
    "op",
    "subject",
    "built",
    "a",
    "a_disassembly",
    "a_reason",
    "b",
    "b_disassembly",
    "b_reason",
    "guess",
)

#: How many rows of a count the summary shows.
_SHOWN = 12


# Data


def document(comparison: Comparison, summary: bool, bar: Bar | None = None) -> Mapping[str, object]:
    """The JSON document, ``pvops.diff/1``; with `summary` without the sites. `bar` counts them."""
    kernel = comparison.kernel
    out: dict[str, object] = {
        "schema": "pvops.diff/1",
        "kernel": kernel.name,
        "release": kernel.release,
        "a": _boot(comparison.names[0], comparison.a),
        "b": _boot(comparison.names[1], comparison.b),
        "summary": {
            "sites": len(comparison.sites),
            "bytes": comparison.differing_bytes,
            "first_guesses": comparison.guesses,
            "sections": comparison.by_section,
            "by_pass": comparison.by_pass,
            "by_op": comparison.by_op,
            "by_subject": [
                {"table": name, "subject": subject, "sites": n} for (name, subject), n in comparison.by_subject.items()
            ],
        },
        "groups": [
            {
                "table": group.table,
                "op": group.op,
                "subject": group.subject,
                "sites": len(group.sites),
                "first": hex_address(group.sites[0].address),
                "a": _cause(group.a),
                "b": _cause(group.b),
            }
            for group in comparison.groups
        ],
    }
    if not summary:
        numbers = {site.address: i for i, group in enumerate(comparison.groups) for site in group.sites}
        sites = comparison.sites if bar is None else bar.of(comparison.sites, len(comparison.sites))
        out["sites"] = [_site(comparison, site, numbers[site.address]) for site in sites]
    return out


def _boot(name: str, plan: Plan) -> Mapping[str, object]:
    return {
        "name": name,
        "backend": plan.backend.name,
        "machine": plan.machine.name if plan.machine is not None else None,
        "passes": dict(plan.by_pass()),
    }


def _cause(side: Side) -> Mapping[str, object]:
    return {"kinds": side.kinds, "reasons": side.reasons, "guess": side.guess}


def _site(comparison: Comparison, site: Difference, group: int) -> Mapping[str, object]:
    def side(found: Side) -> Mapping[str, object]:
        code = found.bytes
        return {
            "bytes": code.hex(),
            "disassembly": comparison.disassembly(site.address, code),
            "reason": "; ".join(found.reasons),
            "guess": found.guess,
        }

    return {**_named(site), "group": group, "a": side(site.a), "b": side(site.b)}


def _named(site: Difference) -> Mapping[str, object]:
    """What documents and rows alike say of a site itself."""
    return {
        "address": hex_address(site.address),
        "section": site.section,
        "symbol": site.symbol,
        "table": site.table,
        "op": site.op,
        "subject": site.subject,
        "built": site.built.hex(),
    }


def rows(comparison: Comparison) -> Iterator[Mapping[str, object]]:
    """A row a site, for JSON lines and CSV."""
    for site in comparison.sites:
        yield {
            **_named(site),
            "a": site.a.bytes.hex(),
            "a_disassembly": comparison.disassembly(site.address, site.a.bytes),
            "a_reason": "; ".join(site.a.reasons),
            "b": site.b.bytes.hex(),
            "b_disassembly": comparison.disassembly(site.address, site.b.bytes),
            "b_reason": "; ".join(site.b.reasons),
            "guess": site.a.guess or site.b.guess,
        }


# Text


def _totals(comparison: Comparison) -> str:
    if not comparison.sites:
        return "nothing differs"
    where = ", ".join(f"{name} {n}" for name, n in comparison.by_section.items())
    guesses = comparison.guesses
    first = f"; {guesses} of them {'is' if guesses == 1 else 'are'} a first guess" if guesses else ""
    differ = f"{count(len(comparison.sites))} differ{'s' if len(comparison.sites) == 1 else ''}"
    return f"{differ}, by {comparison.differing_bytes} bytes: {where}{first}"


def count(n: int) -> str:
    """``1 site``, ``2 sites``."""
    return "1 site" if n == 1 else f"{n} sites"


def _called(name: str, plan: Plan) -> str:
    return name if name == plan.backend.name else f"{name} ({plan.backend.name})"


def summary(comparison: Comparison, style: Style) -> list[str]:
    """What a person wants to read first."""
    kernel = comparison.kernel
    lines = [f"{style.bold(kernel.release or kernel.name)}  {kernel.arch}"]
    for letter, name, plan in zip("AB", comparison.names, (comparison.a, comparison.b), strict=True):
        lines.append(f"  {style.bold(letter)}  {_called(name, plan)}")
    lines.append(f"  {_totals(comparison)}")
    if not comparison.sites:
        return lines
    counts = [
        ("pass", [*comparison.by_pass.items()]),
        ("op", [*comparison.by_op.items()]),
        ("asked", [(f"{what}  ({name})", n) for (name, what), n in comparison.by_subject.items()]),
    ]
    for heading, counted in counts:
        if counted:
            body = [[style.dim(heading), style.dim("sites")], *([name, str(n)] for name, n in counted[:_SHOWN])]
            lines += ["", *(f"  {line}" for line in table(body, right=[1], before=2))]
            if len(counted) > _SHOWN:
                lines.append(f"  and {len(counted) - _SHOWN} more")
    return lines


def of_comparison(comparison: Comparison) -> str:
    """What `Kernel.diff` gives, as ``pvops diff --summary`` prints it."""
    plain = Style("never")
    return "\n".join([*summary(comparison, plain), *group_lines(comparison, plain, sites=False)])


def group_lines(comparison: Comparison, style: Style, *, sites: bool) -> Iterator[str]:
    """The groups, each with its reasons and, if asked, its sites."""
    for group in comparison.groups:
        yield ""
        yield f"{style.bold(group.title)}: {count(len(group.sites))}"
        for letter, side in (("A", group.a), ("B", group.b)):
            for i, reason in enumerate(side.reasons):
                lines = wrapped(reason, indent=5)
                if not i:
                    lines[0] = f"  {style.bold(letter)}  {lines[0].strip()}"
                yield from lines
            if side.guess:
                yield "     a first guess: nothing in the image and the facts settles these bytes"
        if not sites:
            yield from _example(comparison, group, style)
            continue
        for site in group.sites:
            yield from _site_lines(comparison, site, style)


def _example(comparison: Comparison, group: Group, style: Style) -> Iterator[str]:
    yield from _site_lines(comparison, group.sites[0], style)
    if len(group.sites) > 1:
        yield f"  and {len(group.sites) - 1} more"


def _site_lines(comparison: Comparison, site: Difference, style: Style) -> Iterator[str]:
    width = max(len(site.built) * 3, 18)
    yield f"{style.bold(f'{site.address:016x}')}  {site.symbol or site.section}"
    for name, code in (("built", site.built), ("A", site.a.bytes), ("B", site.b.bytes)):
        disassembly = comparison.disassembly(site.address, code)
        shown = style.dim(disassembly) if name == "built" else style.code(disassembly)
        yield f"  {name:<5}  {spaced(code):<{width}} {shown}".rstrip()


# A page


def page(comparison: Comparison, made: html.Made | None = None) -> str:
    """The whole difference as one self-contained page."""
    kernel = comparison.kernel
    release = kernel.release or kernel.name
    names = comparison.names
    boots = [
        (html.text(letter), html.text(_called(name, plan)))
        for letter, name, plan in zip("AB", names, (comparison.a, comparison.b), strict=True)
    ]
    body = [
        f"<h1>{html.text(release)}: {html.text(names[0])} against {html.text(names[1])}</h1>",
        html.table(("", ""), boots),
        f"<p>{html.text(_totals(comparison))}.</p>",
    ]
    for heading, counted in (
        ("By pass", [*comparison.by_pass.items()]),
        ("By op", [*comparison.by_op.items()]),
        ("By what the pass asked", [(f"{what} ({name})", n) for (name, what), n in comparison.by_subject.items()]),
    ):
        if counted:
            cells = [(html.code(name), html.text(n)) for name, n in counted]
            body += [f"<h2>{heading}</h2>", html.table(("", "sites"), cells, ("name", "n"))]
    if comparison.groups:
        body.append("<h2>Site by site</h2>")
    body += [_group(comparison, group) for group in comparison.groups]
    return html.page(f"{release}: {names[0]} against {names[1]}", body, made)


def _group(comparison: Comparison, group: Group) -> str:
    cells = []
    for site in group.sites:
        cells.append(
            (
                f"{site.address:016x}<br>{html.text(site.symbol or site.section)}",
                html.text(spaced(site.built)),
                *(
                    f"{html.text(spaced(side.bytes))}<br>"
                    f'<span class="asm">{html.text(comparison.disassembly(site.address, side.bytes))}</span>'
                    for side in (site.a, site.b)
                ),
            )
        )
    guess = '<p class="warn">A first guess: nothing in the image and the facts settles these bytes.</p>'
    return "\n".join(
        (
            f"<details open><summary>{html.text(group.title)} "
            f'<span class="soft">{html.text(count(len(group.sites)))}</span></summary>',
            f"<p>A: {html.text(', '.join(group.a.kinds) or 'nothing')}</p>{html.bullets(group.a.reasons)}",
            f"<p>B: {html.text(', '.join(group.b.kinds) or 'nothing')}</p>{html.bullets(group.b.reasons)}",
            guess if group.a.guess or group.b.guess else "",
            html.table(("site", "built", "A", "B"), cells, ("mono",) * 4),
            "</details>",
        )
    )
