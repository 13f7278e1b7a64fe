"""A stretch of code as it runs after a boot: instruction by instruction, each with the pass that wrote it last."""

from __future__ import annotations

from pvops import display
from pvops.errors import TableError
from pvops.plan.writes import LONGEST
from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

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


class Listing(tuple[Instruction, ...]):
    """What `Kernel.disasm` gives: the instructions, and as text what ``pvops disasm`` prints of them.

    >>> listing = pvops.open("vmlinux-sample").disasm("sample_lock", "kvm")
    >>> listing
    <Listing of sample_lock, 11 instructions: print() shows them>
    >>> listing[2]
    <0xffffffff81000453 call __pv_queued_spin_lock_slowpath <- paravirt>
    >>> print(listing)
    ffffffff81000450 <sample_lock>, 16 bytes, under kvm
      ...

    Attributes:
        plan: the `pvops.Plan` under which the code runs so.
        functions: (place, its instructions) of each; several where several functions have one name.
    """

    plan: Plan
    functions: Sequence[tuple[Place, Sequence[Instruction]]]

    @classmethod
    def of(cls, plan: Plan, places: Sequence[Place]) -> Listing:
        """Lists places; raises as `instructions` does."""
        functions = [(place, instructions(plan, place)) for place in places]
        made = cls(one for _, listing in functions for one in listing)
        made.plan, made.functions = plan, functions
        return made

    def __repr__(self) -> str:
        place = self.functions[0][0]
        name = place.symbol or f"{place.address:#x}"
        return f"<Listing of {name}, {len(self)} instructions: print() shows them>"

    def __str__(self) -> str:
        return display.show(self, "text")

    def _repr_html_(self) -> str:
        return display.show(self, "fragment")


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
