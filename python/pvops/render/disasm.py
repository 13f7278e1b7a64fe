"""A function as it runs, as text and as rows; two boots side by side."""

from __future__ import annotations

from pvops.render.terminal import Style, hex_address, spaced, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pvops.image.places import Place
    from pvops.image.view import KernelView
    from pvops.plan.listing import Instruction, Listing

    #: Backend → its instructions.
    Listings = Mapping[str, Sequence[Instruction]]

#: The columns of rows.
COLUMNS = ("function", "backend", "address", "runtime_address", "bytes", "text", "pass", "site")


def rows(place: Place, listings: Listings, slide: int = 0) -> Iterator[Mapping[str, object]]:
    """An instruction a row, boot after boot."""
    for backend, listing in listings.items():
        for one in listing:
            row: dict[str, object] = {
                "function": place.symbol,
                "backend": backend,
                "address": hex_address(one.address),
                "bytes": one.bytes.hex(),
                "text": one.text,
                "pass": one.table,
                "site": hex_address(one.site),
            }
            yield row | ({"runtime_address": hex_address(one.address + slide)} if slide else {})


def lines(kernel: KernelView, place: Place, listings: Listings, style: Style, slide: int = 0) -> Iterator[str]:
    """The function, an instruction a line; what a pass wrote is marked with it."""
    name = place.symbol or kernel.place(place.address) or "no symbol"
    yield style.bold(f"{place.address + slide:016x} <{name}>, {place.size} bytes, under {' and '.join(listings)}")
    listings = _merged(listings)
    if len(listings) == 1:
        (listing,) = listings.values()
        cells = [
            [f"  {one.address + slide:x}", spaced(one.bytes), f"{one.text}   <- {one.table}" if one.table else one.text]
            for one in listing
        ]
        for line, one in zip(table(cells), listing, strict=True):
            yield style.runs(line) if one.table else line
        return
    yield from _beside(listings, style, slide)


def of_listing(listing: Listing) -> str:
    """What `Kernel.disasm` gives, as the command prints it."""
    plan, plain = listing.plan, Style("never")
    shown = (lines(plan.kernel, place, {plan.backend.name: found}, plain) for place, found in listing.functions)
    return "\n\n".join("\n".join(one) for one in shown)


def _merged(listings: Listings) -> Listings:
    """The same with one listing for all backends under which the function is the same."""
    names: dict[tuple[Instruction, ...], list[str]] = {}
    for backend, listing in listings.items():
        names.setdefault(tuple(listing), []).append(backend)
    return {", ".join(backends): listing for listing, backends in names.items()}


def _beside(listings: Listings, style: Style, slide: int) -> Iterator[str]:
    """A line an address; boots that agree there have one text, in the first column."""
    by_address = [{one.address: one for one in listing} for listing in listings.values()]
    addresses = sorted(set().union(*by_address))
    cells = [["", *listings]]
    differs = [False]
    for address in addresses:
        found = [of.get(address) for of in by_address]
        same = all(one is not None and found[0] is not None and one[:4] == found[0][:4] for one in found)
        differs.append(not same)
        texts = [_marked(one) for one in (found[:1] if same else found)]
        cells.append([f"  {address + slide:x}", *texts])
    for line, marked in zip(table(cells), differs, strict=True):
        yield style.runs(line) if marked else line


def _marked(one: Instruction | None) -> str:
    if one is None:
        return "."
    return f"{one.text} <- {one.table}" if one.table else one.text
