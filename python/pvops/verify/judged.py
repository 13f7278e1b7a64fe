"""Memory held to what the kernel's own tables account for: every byte of ``.text`` is explained, or it is not.

The core infers the state of the machine from all sites together and judges by it; here what it found is named.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import pvops._core as _core
from pvops.errors import DumpError, OpsError, there_are, wanted
from pvops.image import memory as memories
from pvops.image.patched import refuse_patched
from pvops.machine.state import HVM_CALLS, SOME_FUNCTION
from pvops.verify import evidence, registry
from pvops.verify.counted import refuse_counted
from pvops.verify.data import heard
from pvops.verify.modules import constants_of, modules_of, owned_of
from pvops.verify.report import DISASSEMBLED, FLAGS, OWNERS, NotJudged, Report, Unexplained, Vote
from pvops.verify.rows import ArrowSpans, Later, NumberedRows
from pvops.verify.saved import backends_of, saved_machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing_extensions import Buffer

    from pvops.image.kernel_image import KernelImage
    from pvops.machine.machine import Machine

    #: As the core has a vote: about what, which one, its value, sites for and against it, whether the user said so.
    RawVote = tuple[str, int, int, int, int, bool]

    #: A dump's path or bytes, ``(address, size) -> bytes``, or memory that is open already.
    Source = str | os.PathLike[str] | Buffer | Callable[[int, int], Buffer] | memories.Memory

#: How often a running kernel's memory is read again where something in it is unexplained; seconds between.
_READS, _PAUSE = 4, 0.05

#: Values of these are functions.
_FUNCTIONS = {"static_call", "slot", "return_thunk"}


def verify(
    kernel: KernelImage,
    source: Source,
    *,
    machine: Machine | None = None,
    allow: Iterable[str] = (),
    modules: Iterable[str | os.PathLike[str]] | str | os.PathLike[str] = (),
    progress: memories.Progress | None = None,
    jobs: int | None = None,
) -> Report:
    """See `pvops.kernel.Kernel.verify`."""
    if kernel.image.is_module:
        raise OpsError(f"{kernel.name}: is a module; give the kernel's image, and this as one of the modules")
    check_jobs(jobs)
    allowed = check_owners(allow)
    memory = source if isinstance(source, memories.Memory) else memories.open(source)
    named = (modules,) if isinstance(modules, str | os.PathLike) else modules
    files = [_core.Image.open(os.fspath(path)) for path in named]
    kernel.keep(refuse_patched)
    found = memory.find(kernel, progress)
    if files and memory.kind == "plain" and found.physical is None:
        why = "is .text alone: there are no modules in it to judge"
        raise DumpError(f"{memory.name}: {why}", reason=why, file=memory.name)
    info, verifier = kernel.keep(evidence.info), kernel.keep(evidence.verifier)
    known = evidence.known(kernel, machine)
    for look in range(_READS if memory.kind == "live" else 1):
        if look:
            time.sleep(_PAUSE)
        core = verifier.verify(known, found.core, files, jobs)
        loaded = [(name, at, size) for name, at, size, *_ in core.loaded] if core.loaded is not None else None
        lists = registry.read(kernel, found.core, loaded)
        owners = registry.Owners(lists, registry.Naming(kernel, found.slide, loaded or []), allowed)
        runs = [_run(kernel, raw, i < DISASSEMBLED) for i, raw in enumerate(core.unexplained())]
        runs = [owners.named(run, found.slide) for run in runs]
        edges = [core.address, *(edge for gap in core.unread for edge in gap), core.address + core.size]
        text = [range(start, end) for start, end in zip(edges[::2], edges[1::2], strict=True)]
        data = heard(kernel, core, info, found.core)
        silent = lists.silent(kernel, found.slide, text, runs, bool(core.poked))
        data = data.with_more([*silent, *constants_of(core)], lists.why(runs))
        # A running kernel may be at it: text_poke_bp_batch() (arch/x86/kernel/alternative.c) puts an int3 where it is
        # about to write; a key changes its count, then its sites one after the other. What stays is reported.
        if not runs and not data.disagreements:
            break
    refuse_counted(kernel, runs, range(core.address, core.address + core.size))
    parts: tuple[list[Unexplained], list[Unexplained]] = ([], [])
    for run in runs:
        parts[owners.allow(run, found.slide)].append(run)
    backends = backends_of(kernel, core)
    return Report(
        kernel=kernel.release or kernel.name,
        memory=memory.name,
        address=core.address,
        size=core.size,
        slide=found.slide,
        explained=dict(core.explained),
        unexplained=parts[False],
        allowed=parts[True],
        unread=core.unread,
        backend=next(iter(backends), None),
        backends=backends,
        cpus=_cpus(core),
        features={vote.name: vote.value == "yes" for vote in _votes(kernel, core, core.votes(["feature"]))},
        mitigations=_mitigations(kernel, core),
        votes=NumberedRows(core.votes, lambda votes: _votes(kernel, core, votes), core.votes_arrow),
        not_judged=list(_not_judged(kernel, data.held)),
        modules=list(modules_of(core, found.slide, owners)),
        not_listed=core.not_listed,
        data=data,
        being_written=core.poked,
        spans=ArrowSpans(core.spans, core.spans_arrow),
        saved=Later(lambda: saved_machine(kernel, core)),
    )


def check_jobs(jobs: int | None) -> None:
    """Refuses fewer than one.

    Raises:
        OpsError: that many cannot work at once.
    """
    if jobs is not None:
        wanted(jobs, int, "jobs: a number")
    if jobs is not None and jobs < 1:
        raise OpsError(f"jobs: {jobs}, where at least 1 is needed")


def check_owners(allow: Iterable[str]) -> frozenset[str]:
    given = frozenset((allow,) if isinstance(allow, str) else allow)
    if not given <= set(OWNERS):
        unknown = sorted(given - set(OWNERS))
        raise OpsError(f"nobody called {', '.join(unknown)} writes text{there_are(unknown[0], OWNERS)}")
    return given


def _run(kernel: KernelImage, raw: _core._Run, disassembled: bool) -> Unexplained:
    address, expected, found, wrong, (site, should, stands), table, owned, nearest, suspects = raw

    def asm(code: bytes) -> str:
        return "; ".join(text for _, _, text in kernel.image.disassemble(site, code)) if disassembled else ""

    return Unexplained(
        address=address,
        symbol=kernel.place(address),
        expected=expected,
        found=found,
        wrong=wrong,
        site=site,
        should=asm(should),
        stands=asm(stands),
        table=table,
        owned=owned_of(owned, kernel.place, 0),
        nearest=nearest,
        suspects=suspects,
    )


def _votes(kernel: KernelImage, core: _core.Report, said: Sequence[RawVote]) -> list[Vote]:
    """What the sites say, in names."""
    features = kernel.feature_numbers
    constants = [section for section, _, _ in kernel.tables.constants()]
    slots: dict[int, str] = {}
    if any(vote[0] == "slot" for vote in said):
        slots = {kernel.ops.slot(i): op for i, op in enumerate(kernel.ops.names)}

    def name(about: str, which: int) -> str:
        if about == "feature":
            feature = features.name(which)
            return f"{which // 32}*32+{which % 32}" if feature is None else feature.name
        if about == "constant":
            return constants[which]
        if about == "slot":
            return slots.get(which, f"{which:#x}")
        if about in ("key", "static_call"):
            place = kernel.place(which)
            return place.removesuffix("+0x0") if place else f"{which:#x}"
        if about == "hvm_call":
            return "hypercall page"
        return about if about != "its_page" else f"page {which}"

    def value(about: str, value: int) -> str:
        if about in FLAGS:
            return "yes" if value else "no"
        if about == "slot" and value == SOME_FUNCTION:
            return "some function"
        if about in _FUNCTIONS:
            return (kernel.symbol_at(value) or f"{value:#x}") if value else "none"
        if about == "branches":
            return core.branches
        if about == "hvm_call":
            return f"Xen's, by {HVM_CALLS[value]}"
        return core.nops if about == "nops" else f"{value:#x}"

    return [
        Vote(about, name(about, which), value(about, found), votes, against, given)
        for about, which, found, votes, against, given in said
    ]


def _cpus(core: _core.Report) -> str | None:
    if not any(votes or given for _, _, _, votes, _, given in core.votes(["uniprocessor"])):
        return None
    return "1" if core.uniprocessor else "2 or more"


def _mitigations(kernel: KernelImage, core: _core.Report) -> dict[str, str | None]:
    thunk = core.return_thunk
    return {
        "branches": core.branches if core.votes(["branches"]) else None,
        "return_thunk": None if thunk is None else kernel.symbol_at(thunk) or f"{thunk:#x}",
    }


_WHY = {
    ".init.text": "freed once the kernel is up",
    ".exit.text": "freed once the kernel is up",
    ".altinstr_replacement": "copied to its sites and freed",
    ".altinstr_aux": "freed once the kernel is up",
    ".smp_locks": "freed where there is more than one CPU",
}


#: Data of code that is freed, or copied to its sites.
_FREED = "freed once the kernel is up"
_WRITTEN = "the kernel writes it while it runs"


def _not_judged(kernel: KernelImage, held: Sequence[tuple[int, int]] | None) -> Iterator[NotJudged]:
    """What the verdict is not about: other code, and of memory that has data what was not held to the file."""
    for start, stop in kernel.image.data_in_text():
        yield NotJudged(".text", start, stop - start, "data among the code, which the kernel writes")
    begin, end = kernel.address_of("__init_begin"), kernel.address_of("__init_end")
    for section, address, size, executable in kernel.image.sections():
        if section == ".text" or not size or not address:
            continue
        if executable and section != ".data":
            yield NotJudged(section, address, size, _WHY.get(section, "the verdict is about .text"))
        elif held is not None and not any(start <= address < stop for start, stop in held):
            freed = (begin is not None and end is not None and begin <= address < end) or section.startswith(".init")
            why = _WHY.get(section, _FREED if freed else _WRITTEN)
            yield NotJudged(section, address, size, why, executable=False)
