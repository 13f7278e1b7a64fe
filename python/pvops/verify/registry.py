"""Who has registered with a kernel to change its text, by the kernel's own lists of kprobes, traced functions, BPF
trampolines and live patches."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import pvops._core as _core
from pvops.errors import Error
from pvops.tuples import NamedTuple
from pvops.verify.data import Disagreement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.image.kernel_image import KernelImage
    from pvops.verify.report import Owned, Unexplained

_CALL = b"\xe8"
#: Bytes of a call or jump.
_BRANCH = 5
#: Whose entries name the function, where its text changes behind `endbr64`, if there is one.
_OF_FUNCTIONS = {"bpf", "livepatch"}
_ENDBR = 4
#: Where `ftrace_update_ftrace_func()` and `ftrace_enable_ftrace_graph_caller()` write (arch/x86/kernel/ftrace.c, 6.1).
_TRACER_CALLS = ("ftrace_call", "ftrace_regs_call", "ftrace_graph_call")
#: What these call besides the functions of who traces (`update_ftrace_function()`, `ftrace_ops_get_func()`).
_TRACED_BY = (
    "ftrace_stub",
    "ftrace_stub_graph",
    "ftrace_graph_caller",
    "ftrace_ops_list_func",
    "arch_ftrace_ops_list_func",
    "ftrace_ops_no_ops",
    "ftrace_ops_recurs_func",
    "ftrace_ops_assist_func",
)
#: What asks all who trace, each by its filter.
_ALL_WHO_TRACE = ("ftrace_ops_list_func", "arch_ftrace_ops_list_func")


class Entry(NamedTuple):
    """What somebody registered at a place.

    Attributes:
        handler: the address of what is called there, 0 where the list does not say.
        branch: where the text branches to, but for the kernel's own functions; 0 where it does not, None where the
            list does not say.
    """

    handler: int = 0
    branch: int | None = None


class Tracer(NamedTuple):
    """Who traces through code that the kernel made for it; addresses are run-time ones.

    Attributes:
        trampoline: that code; 0 where there is none.
        function: what it calls.
        owner: for whom.
        places: what is traced; None for all functions.
    """

    trampoline: int
    function: int
    owner: str
    places: Collection[int] | None = None


class Registry(NamedTuple):
    """The lists, as memory has them; addresses are run-time ones.

    Attributes:
        entries: (owner, where it is) → what is registered there.
        read: whose lists could be read; of others nothing is known.
        unread: why a list could not be read, by owner; all under ``""`` where none could.
        tracers: who traces; None where that could not be read.
        calls: where the kernel's code for tracing calls.
        callees: what it may call there besides the functions of these.
        dispatchers: functions of BPF dispatchers → where they go; None where these could not be read.
        modules: (name, address, size) of the text of each module; None where no list of them could be read.
        tracing: what the tracer's code calls by ``saved_ftrace_func``, and whether that goes to the graph tracer by
            ``ftrace_graph_active``; None where the image does not name one.
        misplaced: where probes are by entries that are in the list of another address.
        idle: functions of modules that are traced by their records, though a nop is there.
        image: where the kernel's own functions are.
    """

    entries: Mapping[tuple[str, int], Entry] = {}
    read: Collection[str] = frozenset()
    unread: Sequence[tuple[str, str]] = ()
    tracers: Sequence[Tracer] | None = None
    calls: Collection[int] = frozenset()
    callees: Collection[int] = frozenset()
    dispatchers: Mapping[int, int] | None = None
    modules: Sequence[tuple[str, int, int]] | None = None
    tracing: tuple[int | None, bool | None] = (None, None)
    misplaced: Sequence[int] = ()
    idle: Sequence[int] = ()
    image: range = range(0)

    def entry(self, owner: str, address: int) -> Entry | None:
        """What an owner has registered at an address; None for nothing."""
        found = self.entries.get((owner, address))
        if found is None and owner in _OF_FUNCTIONS:
            found = self.entries.get((owner, address - _ENDBR))
        return found

    def vouches(self, owner: str, owned: Owned, address: int) -> bool | None:
        """Whether an owner has registered there, and these bytes are what is written for it; None where its list could
        not be read, or it keeps none.
        """
        target = owned.target + address - owned.address if owned.target is not None else None
        if owner == "modules":
            if self.modules is None or target is None:
                return None
            return any(start <= target < start + size for _, start, size in self.modules)
        if owner == "bpf" and (dispatcher := _dispatcher(owned, address)) is not None:
            return self.dispatchers.get(dispatcher) == target if self.dispatchers is not None else None
        # The tracer's own calls, which no record lists: they are written while anything is traced, for all who do.
        if address in self.calls:
            if owner not in self.read:
                return None
            legal = self.tracers is None or target in {*self.callees, *(tracer.function for tracer in self.tracers)}
            return legal and self._traced(owner)
        entry = self.entry(owner, address)
        if entry is None:
            return False if owner in self.read else None
        if entry.handler and not self._has_code(entry.handler):
            return False
        if target is None:
            return True
        if owned.bytes[:1] != _CALL:
            return entry.branch is None or target == entry.branch
        return self._calls(owner, entry, address, target)

    def _traced(self, owner: str) -> bool:
        """Whether anything is changed for an owner, or is about to be: of who begins to trace the records come last."""
        return any(other == owner for other, _ in self.entries) or any(
            tracer.owner == owner for tracer in self.tracers or ()
        )

    def _calls(self, owner: str, entry: Entry, address: int, target: int) -> bool:
        """Whether the head of a traced function calls what is called for what is registered."""
        record = self.entry("ftrace", address)
        if record is not None and record.branch is not None:
            return target == record.branch  # a function of the kernel's, which calls all who trace there
        if owner == "bpf" and entry.branch is not None and target == entry.branch:
            return True
        if self.tracers is None:
            return owner != "bpf" or entry.branch is None or target in self.image
        tracer = self._tracer(address, target)
        return tracer is not None and tracer.owner == owner and self._has_code(tracer.function)

    def _has_code(self, address: int) -> bool:
        """Whether a handler is a function of the kernel's or of a module's; so it is, where no modules are listed."""
        if address in self.image or self.modules is None:
            return True
        return any(start <= address < start + size for _, start, size in self.modules)

    def _tracer(self, address: int, target: int) -> Tracer | None:
        """Whose code the head of a traced function calls."""
        for tracer in self.tracers or ():
            if tracer.trampoline == target and (tracer.places is None or address in tracer.places):
                return tracer
        return None

    def named(self, owned: Owned, address: int, name: Naming) -> Owned:
        """What an owner may have written, with what the lists say of it; the address is where it runs."""
        said = {owner: self.vouches(owner, owned, address) for owner in owned.owners}
        registered = sorted((owner for owner, known in said.items() if known), key=_who_says_most)
        if registered:
            owners = [*registered, *(other for other in owned.owners if other not in registered)]
            handler = self._handler(registered[0], owned, address)
            return owned._replace(owners=owners, registered=True, handler=name(handler) if handler else None)
        # Somebody is registered whose handler is no code of the kernel's or of a module's.
        handlers = (self._handler(owner, owned, address) for owner in owned.owners if owner in self.read)
        strays = [f"{handler:#x}, in no module" for handler in handlers if handler and not self._has_code(handler)]
        unread = None in said.values()
        return owned._replace(registered=None if unread else False, handler=strays[0] if strays else None)

    def _handler(self, owner: str, owned: Owned, address: int) -> int | None:
        """What is called there, as far as the lists say."""
        entry = self.entry(owner, address)
        target = owned.target + address - owned.address if owned.target is not None else 0
        if owner == "ftrace":
            return tracer.function if (tracer := self._tracer(address, target)) is not None else None
        return target if owner == "modules" else entry.handler if entry is not None else None

    def allows(self, owned: Owned, address: int, allowed: Collection[str]) -> bool:
        """Whether one of the allowed may have written it: a list that was read has the last word on its owner."""
        return any(owner in allowed and self.vouches(owner, owned, address) is not False for owner in owned.owners)

    def silent(
        self,
        kernel: KernelImage,
        slide: int,
        text: Sequence[range],
        runs: Collection[Unexplained],
        writing: bool = False,
    ) -> list[Disagreement]:
        """Functions that are traced by ftrace's records, and places of armed probes, of which their text, as far as it
        could be read, says nothing; likewise functions of modules; and probes that the kernel does not find, in the
        lists of other addresses. ``writing`` is whether the kernel is about to write text.
        """
        written = {run.owned.address for run in runs if run.owned is not None}
        found = [
            (owner, place, state)
            for owner, state in (("ftrace", "traced"), ("kprobes", "probed"))
            for place in sorted(at - slide for other, at in self.entries if other == owner)
            if place not in written and any(place in part for part in text)
        ]
        # Nobody is called through a function of the kernel's that calls nobody: ftrace_call, ftrace_regs_call.
        for caller, call in (("ftrace_caller", "ftrace_call"), ("ftrace_regs_caller", "ftrace_regs_call")):
            function, place = kernel.address_of(caller), kernel.address_of(call)
            called = function is not None and any(
                owner == "ftrace" and entry.branch == function + slide for (owner, _), entry in self.entries.items()
            )
            if called and place is not None and place not in written and any(place in part for part in text):
                found.append(("ftrace", place, "traced"))
        silent = [
            Disagreement(owner, kernel.place(place) or f"{place:#x}", place, f"not {state}", state)
            for owner, place, state in found
        ]
        strays = [
            Disagreement("kprobes", kernel.place(place) or f"{place:#x}", place, "in its list", "elsewhere")
            for place in sorted(at - slide for at in self.misplaced)
        ]
        name = Naming(kernel, slide, self.modules or ())
        idle = [Disagreement("ftrace", name(at), at - slide, "not traced", "traced") for at in self.idle]
        return silent + strays + idle + self._tracer_calls(kernel, slide, text, runs, writing)

    def _tracer_calls(
        self,
        kernel: KernelImage,
        slide: int,
        text: Sequence[range],
        runs: Collection[Unexplained],
        writing: bool,
    ) -> list[Disagreement]:
        """The tracer's own calls that go elsewhere than its variables say.

        The calls are written with these (`ftrace_modify_all_code()`), the graph tracer's last of all, and while the
        functions that are traced are written the others go to what asks all who trace. The graph tracer's goes to it or
        to nobody, and while it is not active it may be left: `sysctl kernel.ftrace_enabled` stops both without a write.
        """
        function, graph = self.tracing
        stub, grapher = kernel.address_of("ftrace_stub"), kernel.address_of("ftrace_graph_caller")
        meanwhile = [at for name in _ALL_WHO_TRACE if (at := kernel.address_of(name)) is not None]
        targets = [function - slide, *(meanwhile if self._traced("ftrace") else [])] if function else []
        asked = [(call, targets) for call in ("ftrace_call", "ftrace_regs_call") if function]
        if grapher is not None and graph is not None:
            legal = [grapher]
            if stub is not None and (writing or not graph):
                legal.insert(int(graph), stub)
            asked.append(("ftrace_graph_call", legal))
        found = []
        for call, targets in asked:
            place = kernel.address_of(call)
            if place is None or not any(place in part for part in text):
                continue
            here = [run for run in runs if run.site <= place < run.address + len(run.found) or run.address == place]
            if any(run.owned is None for run in here):
                continue  # it is unexplained as it is
            branch = kernel.image.read(place, _BRANCH)
            built = place + _BRANCH + int.from_bytes(branch[1:], "little", signed=True) if branch else None
            goes = next((run.owned.target for run in here if run.owned is not None), built)
            if goes is not None and goes not in targets:
                names = [kernel.place(address) or f"{address:#x}" for address in (goes, targets[0])]
                found.append(Disagreement("ftrace", kernel.place(place) or call, place, *names))
        return found

    def why(self, runs: Iterable[Unexplained]) -> list[str]:
        """Why those lists could not be read that an owner of such text would be in."""
        owners = {owner for run in runs if run.owned is not None for owner in run.owned.owners}
        return [
            f"who registered{f' with {owner}' if owner else ''}: {reason}"
            for owner, reason in self.unread
            if owners and owner in {"", *owners}
        ]


class Naming(NamedTuple):
    """Names for what is called: a function of the kernel's, or the module that has it."""

    kernel: KernelImage
    slide: int
    modules: Sequence[tuple[str, int, int]]

    def __call__(self, address: int) -> str:
        for name, start, size in self.modules:
            if start <= address < start + size:
                return f"{address:#x} in module {name}"
        return self.kernel.place(address - self.slide) or f"{address:#x}"


class Owners(NamedTuple):
    """Who else may have written text, and whom of them the user allows."""

    registry: Registry
    naming: Naming
    allowed: Collection[str]

    def named(self, run: Unexplained, slide: int) -> Unexplained:
        """A run, with what the lists say of it; its address and the slide are where it runs."""
        if run.owned is None:
            return run
        return run._replace(owned=self.registry.named(run.owned, run.owned.address + slide, self.naming))

    def allow(self, run: Unexplained, slide: int) -> bool:
        """Whether one of the allowed may have written it."""
        return run.owned is not None and self.registry.allows(run.owned, run.owned.address + slide, self.allowed)


def _who_says_most(owner: str) -> int:
    """All that trace are in ftrace's records too: who the others are is told first."""
    return owner == "ftrace"


def _dispatcher(owned: Owned, address: int) -> int | None:
    """The function of a BPF dispatcher that this place is in; None where it is in none."""
    name, _, offset = (owned.symbol or "").partition("+")
    if not name.removeprefix("__SCT__").startswith("bpf_dispatcher_"):
        return None
    return address - int(offset or "0", 16)


def read(kernel: KernelImage, found: _core.Location, modules: Sequence[tuple[str, int, int]] | None) -> Registry:
    """Reads the lists of a kernel; what cannot be read is said, and no error."""
    try:
        entries, tracers, dispatchers, tracing, misplaced, idle, owners, unread = _core.registered(found)
    except Error as error:
        return Registry(unread=[("", error.reason)], modules=modules)
    sections = [(address, address + size) for _, address, size, _ in kernel.image.sections() if address]
    start, end = min(sections)[0], max(end for _, end in sections)
    calls, own = (
        [address + found.slide for name in names if (address := kernel.address_of(name)) is not None]
        for names in (_TRACER_CALLS, _TRACED_BY)
    )
    return Registry(
        {(owner, at): Entry(handler, branch) for owner, at, handler, branch in entries},
        frozenset(owners),
        unread,
        [Tracer(*row[:3], None if row[3] is None else frozenset(row[3])) for row in tracers]
        if tracers is not None
        else None,
        frozenset(calls),
        frozenset(own),
        dict(dispatchers) if dispatchers is not None else None,
        modules,
        tracing,
        misplaced,
        idle,
        range(start + found.slide, end + found.slide),
    )
