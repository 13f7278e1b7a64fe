"""What call sites cost, as text and as a piece of a page for notebooks."""

from __future__ import annotations

from collections.abc import Mapping

from pvops.render import html
from pvops.render.terminal import Style, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.bench import Cost, FormCost, KernelEstimate, Measurement

#: The columns of rows.
COLUMNS = (
    "form",
    "cycles",
    "low",
    "high",
    "minimum",
    "serialised_cycles",
    "distinct_sites_cycles",
    "cold_callee_cycles",
    "cold_branches_cycles",
    "site",
    "disassembly",
    "inlines",
    "native",
    "stand_in",
)

_HEADINGS = (
    "form",
    "in a loop",
    "95 %",
    "fenced",
    "4,096 sites",
    "cold branch",
    "cold callee",
    "what stands there",
)

#: How many ops the text lists.
_OPS = 12


def _row(form: FormCost) -> tuple[str, ...]:
    warm = form.ways["warm"]
    return (
        form.form,
        _fixed(form.cycles, 2),
        f"{_fixed(warm.low, 2)}..{_fixed(warm.high, 2)}",
        _fixed(form.serialised_cycles, 1),
        _fixed(form.distinct_sites_cycles, 1),
        _fixed(form.ways["cold_branches"].median, 0),
        _fixed(form.ways["cold_callee"].median, 0),
        _instructions(form),
    )


def _fixed(value: float, digits: int) -> str:
    """A number with so many digits behind the point; zero has no sign."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def _instructions(form: FormCost) -> str:
    """What stands at a site; where it goes to is an address of no interest."""
    import re

    return re.sub(r"-?0x[0-9a-f]{4,}(?=\(%rip\))|\b0x[0-9a-f]{6,}", "…", form.text) or "(nothing)"


def lines(found: Measurement, style: Style, verbose: bool = False) -> list[str]:
    """The table, with what was counted and what stands in for what."""
    clock = (
        "core cycles"
        if found.clock_why is None
        else f"core cycles by the time-stamp counter at {found.core_ghz:.2f} GHz"
    )
    out = [f"{style.bold(found.cpu_model)}, CPU {found.cpu}: {clock} for one site, less an empty slot"]
    rows = table([_HEADINGS, *map(_row, found)], right=range(1, 7))
    out += [f"  {line}" for line in [style.dim(rows[0]), *rows[1:]]]
    for form in found:
        if form.stand_in is not None and form.native is not None:
            out.append(
                style.dim(
                    f"  {form.form}: {form.stand_in.hex(' ')} stands in for {form.native.hex(' ')} "
                    f"({form.inlines}), which no program may run"
                )
            )
    held = sum(check.holds for check in found.checks)
    out.append(f"  {held} of {len(found.checks)} checks hold; {found.rounds} rounds, {found.disturbed} more disturbed")
    for check in found.checks:
        if verbose or not check.holds:
            out.append(f"    {check.check}: {check.measured:.3g}, must be {check.must}")
    if verbose and found.clock_why is not None:
        out.append(f"    not by a counter of core cycles: {found.clock_why}")
    return out


def _both(costs: Mapping[str, Cost], backend: str) -> str:
    cost = costs[backend]
    return f"{cost.loop:.1f} / {cost.kernel:.1f}"


def _share(forms: Mapping[str, int]) -> str:
    return ", ".join(form if len(forms) == 1 else f"{form} {count}" for form, count in forms.items())


def kernel_lines(estimate: KernelEstimate, style: Style) -> list[str]:
    """The tables of ops and paths."""
    kernel, backends = estimate.kernel, estimate.backends
    total = sum(op.sites for op in estimate.ops)
    out = [f"{style.bold(kernel.release or kernel.name)}: {total:,} calls of {len(estimate.ops)} ops"]
    out.append("  cycles on the way to an op, in a loop / among 4,096 sites")
    heading = ("op", "sites", "unpatched", *backends, f"under {backends[0]} becomes")
    ops = [
        (
            op.op,
            str(op.sites),
            _both(op.unpatched, backends[0]),
            *(_both(op.patched, b) for b in backends),
            _share(op.forms[backends[0]]),
        )
        for op in estimate.ops[:_OPS]
    ]
    rows = table([heading, *ops], right=range(1, 3 + len(backends)))
    out += [f"  {line}" for line in [style.dim(rows[0]), *rows[1:]]]
    if len(estimate.ops) > _OPS:
        out.append(style.dim(f"  and {len(estimate.ops) - _OPS} more: --json"))
    heading = ("path", "sites", "unpatched", *backends, "")
    paths = [
        (
            path.path,
            str(sum(path.sites.values())),
            _both(path.unpatched, backends[0]),
            *(_both(path.patched, b) for b in backends),
            f"no sites in {', '.join(path.missing)}" if path.missing else "",
        )
        for path in estimate.paths
    ]
    rows = table([heading, *paths], right=range(1, 3 + len(backends)))
    out += ["", *(f"  {line}" for line in [style.dim(rows[0]), *rows[1:]])]
    from pvops.bench.kernel import ASSUMPTIONS

    return [*out, "  assumed:", *(f"    {sentence}" for sentence in ASSUMPTIONS)]


# For pages and notebooks


def page(found: Measurement, estimate: KernelEstimate | None, made: html.Made | None = None) -> str:
    """A measurement, and what it means for a kernel, as one self-contained page."""
    from pvops.bench.kernel import ASSUMPTIONS

    title = f"What a call site costs: {found.cpu_model}"
    body = [f"<h1>{html.text(title)}</h1>", fragment(found), "<h2>What it was held to</h2>", _checks(found)]
    if estimate is not None:
        kernel = estimate.kernel.release or estimate.kernel.name
        body += [f"<h2>{html.text(kernel)}</h2>", kernel_fragment(estimate), "<h3>Assumed</h3>"]
        body.append(html.bullets(ASSUMPTIONS))
    return html.page(title, body, made)


def _checks(found: Measurement) -> str:
    rows = [
        (html.text(c.check), c.must, f"{c.measured:.3g}", "holds" if c.holds else "<b>does not hold</b>")
        for c in found.checks
    ]
    return html.table(("what", "must be", "was", ""), rows, ("", "n", "n", ""))


def fragment(found: Measurement) -> str:
    """A measurement as a table."""
    rows = [[html.text(row[0]), *map(html.text, row[1:-1]), html.code(row[-1])] for row in map(_row, found)]
    trust = "" if found.trusted else "<p><b>Its own checks fail: do not trust it.</b></p>"
    about = f"{found.cpu_model}: core cycles for one site, less an empty slot; {found.clock}"
    return f"<p>{html.text(about)}</p>{trust}" + html.table(_HEADINGS, rows, ("", *("n",) * 6, "mono"))


def kernel_fragment(estimate: KernelEstimate) -> str:
    """What it means for a kernel, as tables."""
    backends = estimate.backends
    ops = [
        [
            html.code(op.op),
            str(op.sites),
            _both(op.unpatched, backends[0]),
            *(_both(op.patched, b) for b in backends),
        ]
        for op in estimate.ops
    ]
    paths = [
        [
            html.text(path.path),
            str(sum(path.sites.values())),
            _both(path.unpatched, backends[0]),
            *(_both(path.patched, b) for b in backends),
        ]
        for path in estimate.paths
    ]
    name = html.text(estimate.kernel.release or estimate.kernel.name)
    about = f"<p>{name}: cycles on the way to an op, in a loop / among 4,096 sites</p>"
    heads, numbers = ("sites", "unpatched", *backends), ("", *("n",) * (2 + len(backends)))
    return about + html.table(("op", *heads), ops, numbers) + html.table(("path", *heads), paths, numbers)
