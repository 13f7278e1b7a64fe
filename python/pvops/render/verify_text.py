"""The report of a verification, as text."""

from __future__ import annotations

from pvops.cli.output import spaced, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pvops.cli.output import Style
    from pvops.report import Module, Report, Unexplained

#: So many runs are printed in full: whoever has more has another kernel, or wants JSON.
MOST = 200


def lines(report: Report, style: Style, verbose: bool = False) -> Iterator[str]:
    """The report, line by line."""
    yield f"{style.bold(report.kernel)}, slide {report.slide:#x}; inferred: {', '.join(inferred(report))}"
    changed = sum(report.explained.values())
    built = report.size - changed - report.wrong_bytes - report.unread_bytes - sum(r.wrong for r in report.allowed)
    verdict = f"{report.wrong_bytes:,} unexplained"
    if report.unread:
        verdict += f", {report.unread_bytes:,} unread"
    if report.allowed:
        verdict += f", {sum(run.wrong for run in report.allowed):,} allowed"
    yield f"{report.size:,} bytes of text: {built:,} as built, {changed:,} explained, {style.bold(verdict)}"
    yield from (f"  {line}" for line in table([(k, f"{n:,}") for k, n in _most(report)], right=[1]))
    for title, runs in (("unexplained", report.unexplained), ("allowed", report.allowed)):
        for run in runs[:MOST]:
            yield from _run(run, title, style)
        if len(runs) > MOST:
            yield f"  … and {len(runs) - MOST:,} more runs {title}; --json has them all"
    for start, end in report.unread[:MOST]:
        yield f"  {start:016x}  {end - start:,} bytes could not be read"
    for module in report.modules:
        if module.judged:
            yield from _module(module, style, verbose)
    few = len(report.few_votes)
    if few:
        yield style.dim(f"{few:,} of {len(report.votes):,} unknowns have fewer than three votes; --verbose lists them")
    if verbose:
        rows = [(v.about, v.name, v.value, str(v.votes), str(v.against) if v.against else "") for v in report.votes]
        yield from table([("unknown", "which", "value", "votes", "against"), *rows], right=[3, 4])
    for part in report.not_judged:
        yield style.dim(f"not judged: {part.section}, {part.size:,} bytes at {part.address:#x}: {part.why}")
    for module in report.modules:
        if not module.judged:
            where = f"{module.size:,} bytes of text at {module.address:#x}"
            yield style.dim(f"not judged: module {module.name}, {where}: {module.why}")
    if report.not_listed is not None:
        yield style.dim(f"not judged: modules, which could not be listed: {report.not_listed}")


def _module(module: Module, style: Style, verbose: bool) -> Iterator[str]:
    """A judged module, with what nothing explains in it."""
    changed = sum(module.explained.values())
    built = module.size - changed - module.wrong_bytes - module.unread_bytes - sum(r.wrong for r in module.allowed)
    verdict = f"{module.wrong_bytes:,} unexplained"
    if module.unread:
        verdict += f", {module.unread_bytes:,} unread"
    if module.allowed:
        verdict += f", {sum(run.wrong for run in module.allowed):,} allowed"
    if module.unknown:
        verdict += f", {module.unknown:,} that refer to what was freed"
    where = f"module {style.bold(module.name)} at {module.address:#x}, {module.size:,} bytes of text"
    yield f"{where}: {built:,} as built, {changed:,} explained, {style.bold(verdict)}"
    for title, runs in (("unexplained", module.unexplained), ("allowed", module.allowed)):
        for run in runs[:MOST]:
            yield from _run(run, title, style)
        if len(runs) > MOST:
            yield f"  … and {len(runs) - MOST:,} more runs {title}; --json has them all"
    for start, end in module.unread[:MOST]:
        yield f"  {start:016x}  {end - start:,} bytes could not be read"
    if module.few_votes:
        yield style.dim(
            f"  {len(module.few_votes):,} of {len(module.votes):,} unknowns of its own have fewer than three votes"
        )
    if verbose and module.votes:
        rows = [(v.about, v.name, v.value, str(v.votes), str(v.against) if v.against else "") for v in module.votes]
        yield from table([("unknown", "which", "value", "votes", "against"), *rows], right=[3, 4])


def inferred(report: Report) -> list[str]:
    """What decides the text, in a few words each."""
    said = [report.backend or "no backend"]
    if report.cpus is not None:
        said.append(f"{report.cpus} CPU{'' if report.cpus == '1' else 's'}")
    if (branches := report.mitigations.get("branches")) is not None:
        said.append(branches)
        thunk = report.mitigations.get("return_thunk")
        said.append(f"returns through {thunk}" if thunk else "no return thunk")
    said.append(f"{sum(report.features.values())} of {len(report.features)} features")
    return said


def _most(report: Report) -> list[tuple[str, int]]:
    return sorted(report.explained.items(), key=lambda part: -part[1])


def _run(run: Unexplained, title: str, style: Style) -> Iterator[str]:
    found, expected = spaced(run.found[:16]), spaced(run.expected[:16])
    more = " …" if len(run.found) > 16 else ""
    where = f"{run.address:016x}  {style.bold(run.symbol or 'no symbol')}"
    yield f"  {where}  {title}: is {found}{more}, should be {expected}{more}"
    at = f"at {run.site:#x}, " if run.site != run.address else ""
    if run.should or run.stands:
        yield f"      {at}is      {style.code(run.stands)}"
        yield f"      {' ' * len(at)}should  {style.runs(run.should)}"
    notes = [f"in a site of {run.table}"] if run.table else ["in code that no table names"]
    if run.looks_like:
        notes.append(f"looks like {run.looks_like}")
    if run.nearest:
        notes.append(run.nearest)
    yield style.dim(f"      {'; '.join(notes)}")
