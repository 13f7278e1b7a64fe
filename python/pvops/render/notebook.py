"""The nouns in a notebook: small pieces of HTML."""

from __future__ import annotations

from pvops.render import explain, html, verify_map

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pvops.image.sites import Sites
    from pvops.kernel import Kernel
    from pvops.lock.simulate import Result
    from pvops.plan.diff import Comparison
    from pvops.plan.explain import Explanation
    from pvops.plan.listing import Listing
    from pvops.plan.plan import Plan
    from pvops.verify.report import Report

#: How many rows are shown of what may have thousands.
_ROWS = 20


def _facts(title: str, rows: Sequence[tuple[str, object]]) -> str:
    return f"<p><b>{html.text(title)}</b></p>" + html.table(("", ""), [(html.text(k), html.text(v)) for k, v in rows])


def kernel(shown: Kernel) -> str:
    """What an image is."""
    return _facts(
        shown.release or shown.name,
        [
            ("file", shown.name),
            ("architecture", shown.arch),
            ("container", shown.image.container),
            ("era", shown.era or "not known"),
            ("symbols", f"{shown.image.symbol_count():,}"),
        ],
    )


def sites(shown: Sites) -> str:
    """The first sites, and how many there are."""
    rows = [
        (
            html.code(f"{site.address:#x}"),
            html.text(", ".join(dict.fromkeys(r.table for r in site.rows))),
            html.text(site.op or ""),
            html.text(site.symbol or ""),
            html.code(site.bytes.hex(" ")),
        )
        for site in shown[:_ROWS]
    ]
    table = html.table(("address", "tables", "op", "in", "as built"), rows)
    return f"<p><b>{len(shown):,} sites</b>, the first {len(rows)}:</p>{table}"


def plan(shown: Plan) -> str:
    """What a plan writes, pass by pass."""
    machine = "no machine" if shown.machine is None else shown.machine.name
    title = f"{shown.kernel.release or shown.kernel.name} under {shown.backend.name} on {machine}"
    return _facts(title, [(name, f"{count:,} writes") for name, count in shown.by_pass()])


def explanation(shown: Explanation) -> str:
    """One site, explained."""
    return explain.fragment(shown)


def places(shown: Plan, *, address: str) -> str:
    """The sites that an address or a place names, under one plan."""
    from pvops.image.places import parse
    from pvops.plan.explain import explanations

    found = explanations(shown.kernel, [shown], parse(shown.kernel, address))
    return "\n".join(explanation(one) for one in found)


def listing(shown: Listing) -> str:
    """Functions as they run, an instruction a row."""
    parts = []
    for place, found in shown.functions:
        name = place.symbol or f"{place.address:#x}"
        rows = [
            (
                html.code(f"{one.address:#x}"),
                html.code(one.bytes.hex(" ")),
                html.code(one.text),
                html.text(one.table or ""),
            )
            for one in found
        ]
        title = f"<p><b>{html.text(name)}</b> under {html.text(shown.plan.backend.name)}</p>"
        parts.append(title + html.table(("address", "bytes", "instruction", "written by"), rows))
    return "\n".join(parts)


def comparison(shown: Comparison) -> str:
    """How many sites differ between two boots, pass by pass."""
    title = f"{shown.names[0]} and {shown.names[1]}: {len(shown.sites):,} sites differ"
    return _facts(title, [(name, f"{count:,} sites") for name, count in shown.by_pass.items()])


def report(shown: Report) -> str:
    """A verdict, the picture of the text, and what nothing explains."""
    rows = [
        (html.code(f"{run.address:#x}"), html.text(run.symbol or ""), html.code(run.stands), html.code(run.should))
        for run in shown.unexplained[:_ROWS]
    ]
    title = f"{shown.kernel} in {shown.memory}: {shown.verdict}"
    facts = [
        ("unexplained", f"{shown.wrong_bytes:,} of {shown.size:,} bytes, {len(shown.unexplained):,} places"),
        ("unread", f"{shown.unread_bytes:,} bytes"),
        ("slide", f"{shown.slide:#x}"),
    ]
    table = html.table(("address", "in", "is", "should be"), rows) if rows else ""
    return _facts(title, facts) + verify_map.picture(shown) + table


def simulated(shown: Result) -> str:
    """What came of a simulated case."""
    case = shown.case
    total = shown.useful + shown.spin + shown.blocked + shown.overhead + shown.idle
    parts = ("useful", "spin", "blocked", "overhead", "idle")
    rows: list[tuple[str, object]] = [
        (part, f"{getattr(shown, part) / total:.1%}" if total else "0 %") for part in parts
    ]
    rows += [("acquisitions", f"{sum(shown.acquisitions):,}"), ("longest wait", f"{shown.max_us:,.1f} µs")]
    return _facts(f"{case.protocol}: {case.vcpus} virtual CPUs on {case.pcpus}", rows)
