"""A stretch of code as it runs after a boot: instruction by instruction, each with the pass that wrote it last."""

from __future__ import annotations

from pvops.errors import TableError
from pvops.plan.writes import LONGEST
from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.image.places import Place
    from pvops.plan.plan import Plan


class Instruction(NamedTuple):
    """One instruction.

    Attributes:
        address: as linked.
        bytes: its bytes after the boot.
        text: in AT&T syntax.
        table: table of the last pass that wrote any of its bytes; None where it stands as built.
        site: address of the site that it lies in, or None.
    """

    address: int
    bytes: bytes
    text: str
    table: str | None
    site: int | None

    def __repr__(self) -> str:
        return f"<{self.address:#x} {self.text}{' <- ' + self.table if self.table else ''}>"


def instructions(plan: Plan, place: Place) -> list[Instruction]:
    """The instructions of a place after a plan's writes; where no function is named, the last is whole too, however
    far it reaches.

    Raises:
        TableError: the file has no bytes there.
    """
    kernel = plan.kernel
    low, high = place.address, place.end
    if place.symbol is None:
        end = next((a + size for _, a, size, _ in kernel.image.sections() if a <= low < high <= a + size), high)
        high = min(high + LONGEST - 1, end)
    built = kernel.image.read(low, high - low)
    if built is None:
        section = next((n for n, a, size, _ in kernel.image.sections() if a <= low < a + size < high), None)
        why = f"the file has no bytes at {low:#x}" if section is None else f"{low:#x}-{high:#x} leaves {section}"
        raise TableError(f"{kernel.name}: {why}", reason=why, file=kernel.name, address=low)
    code = bytearray(built)
    by: list[str | None] = [None] * len(built)
    for address, table, _, written, *_ in plan.raw(low, high):
        for at in range(max(address, low), min(address + len(written), high)):
            code[at - low] = written[at - address]
            by[at - low] = table
    sites: list[int | None] = [None] * len(built)
    for site in kernel.sites.within(low, high):
        for at in range(max(site.address, low), min(site.address + len(site.bytes), high)):
            sites[at - low] = site.address
    return [
        Instruction(
            low + offset,
            bytes(code[offset : offset + length]),
            text,
            next((table for table in by[offset : offset + length] if table), None),
            next((site for site in sites[offset : offset + length] if site is not None), None),
        )
        for offset, length, text in kernel.image.disassemble(low, bytes(code))
        if offset < place.size
    ]
