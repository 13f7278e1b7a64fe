"""Who has registered with a kernel to change its text, by the kernel's own lists of kprobes, traced functions, BPF
trampolines and live patches."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pvops._core as _core
from pvops.errors import Error
from pvops.verify.data import Disagreement

if TYPE_CHECKING:
    from pvops.image.kernel_image import KernelImage
    from pvops.verify.report import Owned, Unexplained

#: Whose entries name the function, where its text changes behind `endbr64`, if there is one.
_OF_FUNCTIONS = {"bpf", "livepatch"}
_ENDBR = 4
#: Where `ftrace_update_ftrace_func()` and `ftrace_enable_ftrace_graph_caller()` write (arch/x86/kernel/ftrace.c, 6.1).
_TRACER = {"ftrace_call+0x0", "ftrace_regs_call+0x0", "ftrace_graph_call+0x0"}


@dataclass(frozen=True)
class Registry:
    """The lists, as memory has them.

    Attributes:
        entries: (owner, where it runs) → the address of what is called there, 0 where the list does not say.
        read: whose lists could be read; of others nothing is known.
        unread: why a list could not be read, by owner; all under ``""`` where none could.
    """

    entries: Mapping[tuple[str, int], int] = field(default_factory=dict)
    read: Collection[str] = frozenset()
    unread: Mapping[str, str] = field(default_factory=dict)

    def handler(self, owner: str, address: int) -> int | None:
        """What an owner has registered at an address, where it runs; None for nothing."""
        found = self.entries.get((owner, address))
        if found is None and owner in _OF_FUNCTIONS:
            found = self.entries.get((owner, address - _ENDBR))
        return found

    def vouches(self, owner: str, address: int, symbol: str | None = None) -> bool | None:
        """Whether an owner has registered there; None where its list could not be read, or it keeps none."""
        if self.handler(owner, address) is not None:
            return True
        # The tracer's own calls, which no record lists: they are written while anything is traced.
        if owner == "ftrace" and symbol in _TRACER and owner in self.read:
            return any(other == owner for other, _ in self.entries)
        return False if owner in self.read else None

    def named(self, owned: Owned, address: int, name: Naming) -> Owned:
        """What an owner may have written, with what the lists say of it; the address is where it runs."""
        said = {owner: self.vouches(owner, address, owned.symbol) for owner in owned.owners}
        if (owner := next((owner for owner, known in said.items() if known), None)) is not None:
            handler = self.handler(owner, address)
            owners = [owner, *(other for other in owned.owners if other != owner)]
            return replace(owned, owners=owners, registered=True, handler=name(handler) if handler else None)
        return replace(owned, registered=None if None in said.values() else False)

    def allows(self, owned: Owned, address: int, allowed: Collection[str]) -> bool:
        """Whether one of the allowed may have written it: a list that was read has the last word on its owner."""
        return any(
            owner in allowed and self.vouches(owner, address, owned.symbol) is not False for owner in owned.owners
        )

    def untraced(self, kernel: KernelImage, slide: int, text: range, runs: Iterable[Unexplained]) -> list[Disagreement]:
        """Functions that ftrace's records say are traced, though their text says that they are not."""
        traced = {run.owned.address for run in runs if run.owned is not None}
        sites = sorted(address - slide for owner, address in self.entries if owner == "ftrace")
        silent = [address for address in sites if address in text and address not in traced]
        return [
            Disagreement("ftrace", kernel.place(address) or f"{address:#x}", address, "not traced", "traced")
            for address in silent
        ]

    def why(self, runs: Iterable[Unexplained]) -> list[str]:
        """Why those lists could not be read that an owner of such text would be in."""
        owners = {owner for run in runs if run.owned is not None for owner in run.owned.owners}
        return [
            f"who registered{f' with {owner}' if owner else ''}: {reason}"
            for owner, reason in self.unread.items()
            if owners and owner in {"", *owners}
        ]


@dataclass(frozen=True)
class Naming:
    """Names for what is called: a function of the kernel's, or the module that has it."""

    kernel: KernelImage
    slide: int
    modules: Sequence[tuple[str, int, int]]

    def __call__(self, address: int) -> str:
        for name, start, size in self.modules:
            if start <= address < start + size:
                return f"{address:#x} in module {name}"
        return self.kernel.place(address - self.slide) or f"{address:#x}"


@dataclass(frozen=True)
class Owners:
    """Who else may have written text, and whom of them the user allows."""

    registry: Registry
    naming: Naming
    allowed: Collection[str]

    def named(self, run: Unexplained, slide: int) -> Unexplained:
        """A run, with what the lists say of it; its address and the slide are where it runs."""
        if run.owned is None:
            return run
        return replace(run, owned=self.registry.named(run.owned, run.owned.address + slide, self.naming))

    def allow(self, run: Unexplained, slide: int) -> bool:
        """Whether one of the allowed may have written it."""
        return run.owned is not None and self.registry.allows(run.owned, run.owned.address + slide, self.allowed)


def read(found: _core.Location) -> Registry:
    """Reads the lists of a kernel; what cannot be read is said, and no error."""
    try:
        entries, owners, unread = _core.registered(found)
    except Error as error:
        return Registry(unread={"": error.reason})
    return Registry({(owner, at): handler for owner, at, handler in entries}, frozenset(owners), dict(unread))
