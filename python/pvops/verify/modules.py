"""The modules that a kernel in memory lists, judged where there is a file of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pvops.verify.data import Disagreement
from pvops.verify.report import DISASSEMBLED, FLAGS, Module, Owned, Unexplained, Vote

TYPE_CHECKING = False
if TYPE_CHECKING:
    import pvops._core as _core
    from pvops.verify import registry


def modules_of(core: _core.Report, slide: int, owners: registry.Owners) -> Iterator[Module]:
    """What is loaded, the newest first, judged where there is a file of it."""
    judged = {module.name: module for module in core.modules()}
    for name, address, size, _, live in core.loaded or []:
        if name in judged:
            yield _module(judged[name], slide, owners)
        else:
            yield Module(name, address, size, why="no file of it was given" if live else "being loaded or unloaded")


def _module(core: _core.Module, slide: int, owners: registry.Owners) -> Module:
    def place(address: int) -> str | None:
        return _place(core, address)

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
            owned=owned_of(owned, place, slide),
            nearest=nearest,
            suspects=[suspect + slide for suspect in suspects],
        )

    def vote(raw: tuple[str, int, int, int, int, bool]) -> Vote:
        about, which, value, votes, against, given = raw
        named = place(which) if about in ("key", "static_call") else None
        function = core.place(value) if about == "static_call" and value else None
        said = ("yes" if value else "no") if about in FLAGS else f"{value:#x}" if value else "none"
        name = named.replace("+0x0 ", " ") if named else f"page {which}"
        return Vote(about, name, function[0] if function else said, votes, against, given)

    constants, unread = core.constants
    runs = [owners.named(run(raw, i < DISASSEMBLED), 0) for i, raw in enumerate(core.unexplained())]
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
        constants=constants - sum(end - start for start, end in unread),
    )


def _place(module: _core.Module, address: int) -> str | None:
    named = module.place(address)
    return f"{named[0]}+{named[1]:#x} [{module.name}]" if named else None


def constants_of(core: _core.Report) -> Iterator[Disagreement]:
    """Where constants of modules are not what their files have."""
    for module in core.modules():
        for address, built, stands in module.changed():
            name = _place(module, address) or f"{address:#x} [{module.name}]"
            yield Disagreement("module_rodata", name.replace("+0x0 ", " "), address, built.hex(), stands.hex())


def owned_of(raw: _core._Owned | None, place: Callable[[int], str | None], slide: int) -> Owned | None:
    """What an owner wrote; its addresses are moved by the slide."""
    if raw is None:
        return None
    address, code, owners, target = raw
    return Owned(address + slide, place(address), code, owners, target + slide if target is not None else None)
