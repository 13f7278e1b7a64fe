"""The report of a verification, as text."""

from __future__ import annotations

from collections import Counter

from pvops.render.terminal import fitted, spaced, table
from pvops.verify.data import OF_THE_FILE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pvops.render.terminal import Style
    from pvops.verify.report import Module, Owned, Report, Unexplained, Vote

#: So many runs are printed in full; JSON has all of them.
MOST = 200
#: What no dump has, and what is looked at in none.
NEVER = (
    "not judged: where MSR_LSTAR and debug registers point; memory that was allocated, but for what is named above: "
    "stacks, BPF's code, trampolines; of page tables who may write"
)
#: Writes of one owner that go to one place are one line where there are more of them than this.
ALIKE = 3


def lines(report: Report, style: Style, verbose: bool = False) -> Iterator[str]:
    """The report, line by line; sentences fit the terminal."""
    yield from fitted(f"{style.bold(report.kernel)}, slide {report.slide:#x}; inferred: {', '.join(inferred(report))}")
    yield f"{report.size:,} bytes of text: {_shares(report)}, {style.bold(_verdict(report))}"
    yield from (f"  {line}" for line in table([(k, f"{n:,}") for k, n in _most(report)], right=[1], before=2))
    yield from _runs(report, style)
    for module in report.modules:
        if module.judged:
            yield from _module(module, style, verbose)
    for line in (*_data(report, style, verbose), *_being_written(report, style)):
        yield from fitted(line)
    few = report.few
    if few:
        said = f"{few:,} of {len(report.votes):,} unknowns have fewer than three votes; --verbose lists them"
        yield from fitted(style.dim(said))
    if verbose:
        yield from _votes(report)
    for line in _not_judged(report):
        yield from fitted(style.dim(line))


def _being_written(report: Report, style: Style) -> Iterator[str]:
    """What the kernel was about to write when memory was taken, and is judged instead of what stood there."""
    if report.being_written:
        count = len(report.being_written)
        places = f"{count:,} place{'s' if count > 1 else ''}, the first at {report.being_written[0]:#x}"
        yield style.dim(f"being written when memory was taken, and judged as they will be: {places}")


def _not_judged(report: Report) -> Iterator[str]:
    """What the verdict is not about: sections, those of data by why, and modules."""
    reasons: dict[str, list[str]] = {}
    for part in report.not_judged:
        if part.executable:
            yield f"not judged: {part.section}, {part.size:,} bytes at {part.address:#x}: {part.why}"
        else:
            reasons.setdefault(part.why, []).append(f"{part.section} ({part.size:,} bytes)")
    for why, parts in reasons.items():
        yield f"not judged: {', '.join(parts)}: {why}"
    for module in report.modules:
        if not module.judged:
            where = f"{module.size:,} bytes of text at {module.address:#x}"
            yield f"not judged: module {module.name}, {where}: {module.why}"
    if report.not_listed is not None:
        yield f"not judged: modules, which could not be listed: {report.not_listed}"
    if report.data.counts:
        yield NEVER


#: How a kind of data is called where several are counted.
_KINDS = {
    "static_key": "static keys",
    "static_call": "static calls",
    "pv_ops": "ops",
    "return_thunk": "return thunk",
    "alternatives_patched": "mark of alternatives",
    "feature": "features",
    "tracepoint": "tracepoints",
    "dynamic_debug": "debug messages",
    "lsm_hook": "security hooks",
    "mirrored_call": "calls of the PMU and the APIC",
    "sched_feature": "features of the scheduler",
    "variable": "keys that variables tell of",
    "netfilter_hook": "hooks of netfilter",
    "cgroup_bpf": "kinds of BPF programs of control groups",
    "updated_call": "calls that were updated",
    "function": "pointers to functions in .data",
    "page": "pages of text, constants and data in page tables",
    "gate": "gates of interrupts",
    "idt_register": "registers of CPUs that say where these are",
    "segment": "segments of CPUs",
    "jump_entry": "rows of jump labels",
    "static_call_site": "rows of static calls",
}


def _data(report: Report, style: Style, verbose: bool) -> Iterator[str]:
    """What the kernel's data say, and its constants."""
    data = report.data
    if data.counts:
        for who, than, what in (
            ("data", "say something else than the text", data.counts.keys() - OF_THE_FILE),
            ("tables", "say something else than the file", data.counts.keys() & OF_THE_FILE),
        ):
            kinds = ", ".join(f"{count:,} {_KINDS[kind]}" for kind, count in data.counts.items() if kind in what)
            other = sum((datum.what in OF_THE_FILE) == (who == "tables") for datum in data.disagreements)
            other -= (
                sum(datum.what in ("rodata", "module_rodata") for datum in data.disagreements) if who == "tables" else 0
            )
            if kinds:
                yield f"{who}: {kinds}; {style.bold(f'{other:,} {than}')}"
    if (constants := data.rodata) is not None:
        unread = f", {constants.unread_bytes:,} unread" if constants.unread else ""
        where = ", ".join([".rodata", *constants.tables])
        yield f"{constants.size:,} bytes of {where}: {style.bold(f'{constants.wrong:,} not as in the file')}{unread}"
    for datum in data.disagreements[:MOST]:
        which = style.bold(datum.name)
        expected, found = ("should be", "is") if datum.what in OF_THE_FILE else ("the text says", "the data")
        if datum.what == "updated_call":
            expected, found = "was built to go to", "no code of the kernel's has it go to"
        yield f"  {datum.address:016x}  {datum.what} {which}: {expected} {datum.expected}, {found} {datum.found}"
    if len(data.disagreements) > MOST:
        yield f"  … and {len(data.disagreements) - MOST:,} more; --json has them all"
    if constants is not None and constants.written[0] < constants.written[1]:
        start, end = constants.written
        but = f", but for {constants.pointers:,} pointers to functions" if constants.pointers else ""
        where = f"{constants.not_judged:,} bytes of .rodata between {start:#x} and {end:#x}"
        yield style.dim(f"not judged: {where}: written at boot{but}")
    for reason in data.unheard:
        yield style.dim(f"not judged: {reason}")
    if data.alone:
        which = f": {', '.join(data.alone)}" if verbose else "; --verbose lists them"
        yield style.dim(f"nothing but text and count tells of {len(data.alone):,} static keys{which}")


def _module(module: Module, style: Style, verbose: bool) -> Iterator[str]:
    """A judged module, with what nothing explains in it."""
    verdict = _verdict(module)
    if module.unknown:
        verdict += f", {module.unknown:,} that refer to what was freed"
    where = f"module {style.bold(module.name)} at {module.address:#x}, {module.size:,} bytes of text"
    constants = f"; {module.constants:,} bytes of constants" if module.constants else ""
    yield f"{where}: {_shares(module)}, {style.bold(verdict)}{constants}"
    yield from _runs(module, style)
    if module.few_votes:
        yield style.dim(
            f"  {len(module.few_votes):,} of {len(module.votes):,} unknowns of its own have fewer than three votes"
        )
    if verbose and module.votes:
        yield from _votes(module)


def _shares(part: Report | Module) -> str:
    """How many bytes are as built, and how many the tables account for."""
    changed = sum(part.explained.values())
    built = part.size - changed - part.wrong_bytes - part.unread_bytes - sum(run.wrong for run in part.allowed)
    return f"{built:,} as built, {changed:,} explained"


def _verdict(part: Report | Module) -> str:
    """How many bytes nothing accounts for."""
    verdict = f"{part.wrong_bytes:,} unexplained"
    if part.unread:
        verdict += f", {part.unread_bytes:,} unread"
    if part.allowed:
        verdict += f", {sum(run.wrong for run in part.allowed):,} allowed"
    return verdict


def _runs(part: Report | Module, style: Style) -> Iterator[str]:
    for title, runs in (("unexplained", part.unexplained), ("allowed", part.allowed)):
        alike = Counter(map(_writer, runs))
        single = [run for run in runs if run.owned is None or alike[_writer(run)] <= ALIKE]
        for run in single[:MOST]:
            yield from _run(run, title, style)
        if len(single) > MOST:
            yield f"  … and {len(single) - MOST:,} more runs {title}; --json has them all"
        for (owner, target), count in alike.items():
            if owner is not None and count > ALIKE:
                wrong = sum(run.wrong for run in runs if _writer(run) == (owner, target))
                where = f"branch to {target:#x}" if target is not None else "are breakpoints"
                yield f"  {title}: {count:,} places, {wrong:,} bytes, {where}: look like {owner}"
    for start, end in part.unread[:MOST]:
        yield f"  {start:016x}  {end - start:,} bytes could not be read"


def _owner(owned: Owned) -> str:
    """Whose bytes these may be, and what the kernel's lists say of that."""
    owner = owned.owners[0]
    if owned.registered:
        return f"registered with {owner}" + (f", which calls {owned.handler}" if owned.handler else "")
    known = f"calls {owned.handler}" if owned.handler else "has nothing registered here"
    unknown = f", which {known}" if owned.registered is False else ""
    return f"looks like {owner}{unknown}"


def _writer(run: Unexplained) -> tuple[str | None, int | None]:
    """Who may have written a run, and where it goes."""
    return run.looks_like, run.owned.target if run.owned is not None else None


def _votes(part: Report | Module) -> Iterator[str]:
    rows = [(v.about, v.name, voted(v), str(v.votes), str(v.against) if v.against else "") for v in part.votes]
    yield from table([("unknown", "which", "value", "votes", "against"), *rows], right=[3, 4])


def voted(vote: Vote) -> str:
    """What sites say of an unknown; that it is a guess, where none says so."""
    return vote.value if vote.votes or vote.given else f"{vote.value}, a guess"


def inferred(report: Report) -> list[str]:
    """What decides the text, in a few words each."""
    said = [" or ".join(report.backends) or "no backend"]
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
    yield style.dim(f"      {'; '.join(notes(run))}")


def notes(run: Unexplained) -> list[str]:
    """What is known of a run besides its bytes: where it lies, whose it may be, what it is near to."""
    said = [f"in a site of {run.table}"] if run.table else ["in code that no table names"]
    if run.owned is not None:
        said.append(_owner(run.owned))
    if run.nearest:
        said.append(run.nearest)
    if run.suspects:
        others = ", ".join(f"{address:#x}" for address in run.suspects)
        said.append(f"as many sites say so as say otherwise, so any of these may be the changed one: {others}")
    return said
