"""Memory held to what the kernel's own tables account for: every byte of ``.text`` is explained, or it is not.

The core infers the state of the machine from all sites together and judges by it; here what it found is named.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import pvops._core as _core
from pvops.errors import OpsError
from pvops.image import memory as memories
from pvops.image.kernel_image import KernelImage
from pvops.machine.state import State
from pvops.verify import evidence as briefing
from pvops.verify import registry
from pvops.verify.data import heard
from pvops.verify.report import OWNERS, Module, NotJudged, Owned, Report, Unexplained, Vote

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from pvops.machine.machine import Machine

    #: A dump's path or bytes, ``(address, size) -> bytes``, or memory that is open already.
    Source = str | os.PathLike[str] | Buffer | Callable[[int, int], Buffer] | memories.Memory

#: Runs beyond this many are listed without disassembly: so many are another kernel, not a change of this one.
_DISASSEMBLED = 2000

#: How often a running kernel's memory is read again where something in it is unexplained; seconds between.
_READS, _PAUSE = 4, 0.05

#: Values of these are yes or no.
_FLAGS = {"feature", "key", "uniprocessor", "sealed", "untraced", "xen", "inlines"}
#: Values of these are functions.
_FUNCTIONS = {"static_call", "slot", "return_thunk"}


def verify(
    kernel: KernelImage,
    source: Source,
    *,
    machine: Machine | None = None,
    allow: Iterable[str] = (),
    modules: Iterable[str | os.PathLike[str]] = (),
    progress: memories.Progress | None = None,
) -> Report:
    """See `pvops.kernel.Kernel.verify`."""
    if kernel.image.is_module:
        raise OpsError(f"{kernel.name}: is a module; give the kernel's image, and this as one of the modules")
    allowed = check_owners(allow)
    if kernel.rules.paravirt is not None and kernel.rules.paravirt.clobbers:
        raise OpsError(
            f"{kernel.name}: its rules are those of {kernel.rules.era}; memory of 4.20 and later can be judged"
        )
    memory = source if isinstance(source, memories.Memory) else memories.open(source)
    files = [_core.Image.open(os.fspath(path)) for path in modules]
    found = memory.find(kernel, progress)
    brief, known = briefing.brief(kernel), briefing.known(kernel, machine)
    core = _core.verify(kernel.tables, kernel.rules.passes, brief, known, found.core, files)
    # A running kernel may be at it: text_poke_bp_batch() (arch/x86/kernel/alternative.c) puts an int3 where it is about
    # to write, and a key changes its sites one after the other. What stays is reported.
    for _ in range(_READS if memory.kind == "live" else 0):
        if not core.unexplained():
            break
        time.sleep(_PAUSE)
        core = _core.verify(kernel.tables, kernel.rules.passes, brief, known, found.core, files)
    lists = registry.read(found.core)
    naming = registry.Naming(kernel, found.slide, [(name, at, size) for name, at, size, *_ in core.loaded or []])
    owners = registry.Owners(lists, naming, allowed)
    runs = [_run(kernel, raw, i < _DISASSEMBLED) for i, raw in enumerate(core.unexplained())]
    runs = [owners.told(run, found.slide) for run in runs]
    votes = _votes(kernel, core)
    text = range(core.address, core.address + core.size)
    data = heard(kernel, core, brief, found.core)
    data = data.with_more(lists.untraced(kernel, found.slide, text, runs), lists.why(runs))
    return Report(
        kernel=kernel.release or kernel.name,
        memory=memory.name,
        address=core.address,
        size=core.size,
        slide=found.slide,
        explained=dict(core.explained),
        unexplained=[run for run in runs if not owners.allow(run, found.slide)],
        allowed=[run for run in runs if owners.allow(run, found.slide)],
        unread=core.unread,
        backend=next(iter(core.backends), None),
        backends=core.backends,
        cpus=_cpus(core, votes),
        features={vote.name: vote.value == "yes" for vote in votes if vote.about == "feature"},
        mitigations=_mitigations(kernel, core, votes),
        votes=votes,
        not_judged=list(_not_judged(kernel)),
        modules=list(_modules(core, found.slide, owners)),
        not_listed=core.not_listed,
        data=data,
        spans=core.spans(),
        machine=_machine(kernel, core),
    )


def check_owners(allow: Iterable[str]) -> frozenset[str]:
    given = frozenset(allow)
    if not given <= set(OWNERS):
        unknown = ", ".join(sorted(given - set(OWNERS)))
        raise OpsError(f"nobody called {unknown} writes text (there are {', '.join(OWNERS)})")
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
        owned=_owned(owned, kernel.place, 0),
        nearest=nearest,
        suspects=suspects,
    )


def _owned(raw: _core._Owned | None, place: Callable[[int], str | None], slide: int) -> Owned | None:
    """What somebody else wrote; its addresses are moved by the slide."""
    if raw is None:
        return None
    address, code, owners, target = raw
    return Owned(address + slide, place(address), code, owners, target + slide if target is not None else None)


def _votes(kernel: KernelImage, core: _core.Report) -> list[Vote]:
    features = kernel.feature_numbers.by_number
    constants = [section for section, _, _ in kernel.tables.constants()]
    slots: dict[int, str] = {}
    if any(about == "slot" for about, *_ in core.votes()):
        slots = {kernel.ops.slot(i): op for i, op in enumerate(kernel.ops.names)}

    def name(about: str, which: int) -> str:
        if about == "feature":
            return features[which].name if which in features else f"{which // 32}*32+{which % 32}"
        if about == "constant":
            return constants[which]
        if about == "slot":
            return slots.get(which, f"{which:#x}")
        if about in ("key", "static_call"):
            place = kernel.place(which)
            return place.removesuffix("+0x0") if place else f"{which:#x}"
        return about if about != "its_page" else f"page {which}"

    def value(about: str, value: int) -> str:
        if about in _FLAGS:
            return "yes" if value else "no"
        if about in _FUNCTIONS:
            return (kernel.symbol_at(value) or f"{value:#x}") if value else "none"
        if about == "branches":
            return core.branches
        return core.nops if about == "nops" else f"{value:#x}"

    return [
        Vote(about, name(about, which), value(about, found), votes, against, given)
        for about, which, found, votes, against, given in core.votes()
    ]


def _cpus(core: _core.Report, votes: list[Vote]) -> str | None:
    if not any(vote.about == "uniprocessor" and (vote.votes or vote.given) for vote in votes):
        return None
    return "1" if core.uniprocessor else "2 or more"


def _mitigations(kernel: KernelImage, core: _core.Report, votes: list[Vote]) -> dict[str, str | None]:
    about = {vote.about for vote in votes}
    thunk = core.return_thunk
    return {
        "branches": core.branches if "branches" in about else None,
        "return_thunk": None if thunk is None else kernel.symbol_at(thunk) or f"{thunk:#x}",
    }


def _modules(core: _core.Report, slide: int, owners: registry.Owners) -> Iterator[Module]:
    """What is loaded, the newest first, judged where there is a file of it."""
    judged = {module.name: module for module in core.modules()}
    for name, address, size, _, live in core.loaded or []:
        if name in judged:
            yield _module(judged[name], slide, owners)
        else:
            yield Module(name, address, size, why="no file of it was given" if live else "being loaded or unloaded")


def _module(core: _core.Module, slide: int, owners: registry.Owners) -> Module:
    def place(address: int) -> str | None:
        named = core.place(address)
        return f"{named[0]}+{named[1]:#x} [{core.name}]" if named else None

    def run(raw: _core._Run, disassembled: bool) -> Unexplained:
        address, expected, found, wrong, (site, should, stands), table, owned, nearest, suspects = raw
        return Unexplained(
            address=address + slide,
            symbol=place(address),
            expected=expected,
            found=found,
            wrong=wrong,
            site=site + slide,
            should="; ".join(core.disassemble(site, should)) if disassembled else "",
            stands="; ".join(core.disassemble(site, stands)) if disassembled else "",
            table=table,
            owned=_owned(owned, place, slide),
            nearest=nearest,
            suspects=[suspect + slide for suspect in suspects],
        )

    def vote(raw: tuple[str, int, int, int, int, bool]) -> Vote:
        about, which, value, votes, against, given = raw
        named = place(which) if about in ("key", "static_call") else None
        function = core.place(value) if about == "static_call" and value else None
        said = ("yes" if value else "no") if about in _FLAGS else f"{value:#x}" if value else "none"
        name = named.replace("+0x0 ", " ") if named else f"page {which}"
        return Vote(about, name, function[0] if function else said, votes, against, given)

    runs = [owners.told(run(raw, i < _DISASSEMBLED), 0) for i, raw in enumerate(core.unexplained())]
    return Module(
        name=core.name,
        address=core.address + slide,
        size=core.size,
        file=core.file,
        explained=dict(core.explained),
        unexplained=[run for run in runs if not owners.allow(run, 0)],
        allowed=[run for run in runs if owners.allow(run, 0)],
        unread=[(start + slide, end + slide) for start, end in core.unread],
        unknown=core.unknown,
        votes=[vote(raw) for raw in core.votes()],
    )


_WHY = {
    ".init.text": "freed once the kernel is up",
    ".exit.text": "freed once the kernel is up",
    ".altinstr_replacement": "copied to its sites and freed",
    ".altinstr_aux": "freed once the kernel is up",
}


def _not_judged(kernel: KernelImage) -> Iterator[NotJudged]:
    for section, address, size, executable in kernel.image.sections():
        if executable and section != ".text" and size and address:
            yield NotJudged(section, address, size, _WHY.get(section, "the verdict is about .text"))


def _machine(kernel: KernelImage, core: _core.Report) -> dict[str, object]:
    """The machine that was inferred, as `pvops.Machine.from_dict` takes it."""
    slots: dict[int, int] = {}
    keys: dict[int, bool] = {}
    calls: dict[int, int] = {}
    constants: dict[str, int] = {}
    names = [section for section, _, _ in kernel.tables.constants()]
    for about, which, value, *_ in core.votes():
        if about == "constant":
            constants[names[which]] = value
        elif about == "slot":
            slots[which] = value
        elif about == "key":
            keys[which] = bool(value)
        elif about == "static_call":
            calls[which] = value
    state = State(
        kernel=kernel.release or kernel.name,
        features=tuple(core.features),
        nops=core.nops,
        return_thunk=core.return_thunk,
        uniprocessor=core.uniprocessor,
        its_pages=tuple(core.its_pages),
        slots=slots,
        keys=keys,
        static_calls=calls,
        early_calls=tuple(core.early_calls),
        constants=constants,
    )
    machine: dict[str, object] = {"schema": "pvops.machine/1", "state": state.to_dict()}
    hypervisors = {"native": "none", "xen": "xen-pv"}
    if core.backends:
        machine["hypervisor"] = hypervisors.get(core.backends[0], core.backends[0])
    return machine
