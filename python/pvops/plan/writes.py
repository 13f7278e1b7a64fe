"""What a plan is made of: its writes, and the bytes that nothing settles."""

from __future__ import annotations

from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

#: (address, table, row, bytes, kind, reason, bytes used, feature) of a write: see `_core.Plan.writes`.
RawWrite: TypeAlias = tuple[int, str, int, bytes, str, str, int, tuple[int, bool, bool] | None]

#: (address, section, bytes as built, what each boot leaves, the writes of each there): see `_core.Plan.differences`.
RawDifference: TypeAlias = tuple[int, str, bytes, tuple[bytes, bytes], tuple[list[RawWrite], list[RawWrite]]]

#: The longest x86 instruction, in bytes.
LONGEST = 15

#: A representation has so many forms, and so many characters of bytes.
_SHOWN, _CHARACTERS = 3, 32


def short(digits: str) -> str:
    """Bytes in hex, as far as they fit into a line with others."""
    return digits if len(digits) <= _CHARACTERS else f"{digits[:_CHARACTERS].rstrip()}…"


class Write(NamedTuple):
    """One write of one pass, or a row it passed over.

    Attributes:
        address: where, as linked.
        table: the pass's table, ``"paravirt"``.
        row: the row of that table that asks for it.
        bytes: what is written; empty where the row changes nothing.
        used: how many of them the pass needed; the rest are nops.
        kind: what the site became: ``inlined``, ``called``, ``jumped``, ``nopped``, ``moved``, ``kept``, ….
        reason: why, in words.
        source: where the kernel says so: file and function.
        op: the op whose call it is, or None.
        function: what the op's slot holds; None for NULL or no op.
        feature: number of the feature that decided, or None.
    """

    address: int
    table: str
    row: int
    bytes: bytes
    used: int
    kind: str
    reason: str
    source: str
    op: str | None
    function: str | None
    feature: int | None

    def __repr__(self) -> str:
        written = short(self.bytes.hex(" ")) or "nothing"
        return f"<Write {self.address:#x} {self.table} row {self.row}: {written}, {self.kind}>"


class Undetermined(NamedTuple):
    """Bytes that nothing in the image and the machine's description settles.

    Attributes:
        address: where, as linked.
        len: how many.
        table: whose they are.
        row: of that table; -1 where only a boot with other features has one.
        forms: what they may be, in hex, ``??`` where a byte may be any.
    """

    address: int
    len: int
    table: str
    row: int
    forms: tuple[str, ...]

    @classmethod
    def of(cls, found: tuple[int, int, str, int | None, list[str]]) -> Undetermined:
        """From what the core has: see `_core.UndeterminedBytes`."""
        address, length, table, row, forms = found
        return cls(address, length, table, -1 if row is None else row, tuple(forms))

    def __repr__(self) -> str:
        shown = [short(form) for form in self.forms[:_SHOWN]] + ["…"] * (len(self.forms) > _SHOWN)
        return f"<Undetermined {self.address:#x}, {self.len} bytes of {self.table}: {' or '.join(shown)}>"
