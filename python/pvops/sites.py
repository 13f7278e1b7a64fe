"""Sites: the addresses a kernel may rewrite, each with the table rows that say so."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from pvops import _core
from pvops.errors import OpsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import Counter
    from typing import overload


class Row:
    """One row of a table of sites.

    Attributes:
        table: ``"paravirt"``.
        index: its place in the table, from 0.
        type: the op's number in ``paravirt_patch_template``.
        op: the op, ``pv_irq_ops.irq_enable``; ``type N`` where nothing names it.
        len: length of the site in bytes.
        clobbers: registers the site lets go, as the era encodes them; None where rows do not say.
    """

    __slots__ = ("clobbers", "index", "len", "op", "table", "type")

    def __init__(self, table: str, index: int, type: int, op: str, len: int, clobbers: int | None) -> None:
        self.table = table
        self.index = index
        self.type = type
        self.op = op
        self.len = len
        self.clobbers = clobbers

    def to_dict(self) -> dict[str, object]:
        """The row as JSON documents carry it."""
        return {
            "table": self.table,
            "index": self.index,
            "type": self.type,
            "op": self.op,
            "len": self.len,
            "clobbers": self.clobbers,
        }

    def __repr__(self) -> str:
        return f"<{self.table} row {self.index}: {self.op}>"


class Site:
    """An address the kernel may rewrite.

    Attributes:
        address: as linked.
        section: name of the section it lies in.
        bytes: what stands there as built.
        rows: the table rows that name it, in the order the kernel applies them.
    """

    __slots__ = ("_name", "address", "bytes", "rows", "section")

    def __init__(
        self, address: int, section: str, code: bytes, rows: tuple[Row, ...], name: Callable[[int], str | None]
    ) -> None:
        self.address = address
        self.section = section
        self.bytes = code
        self.rows = rows
        self._name = name

    @property
    def symbol(self) -> str | None:
        """Where it lies, ``do_syscall_64+0x3a``; None where the image names nothing there."""
        return self._name(self.address)

    @property
    def op(self) -> str:
        """The op of its paravirt row."""
        return self.rows[0].op

    @property
    def type(self) -> int:
        """The type of its paravirt row."""
        return self.rows[0].type

    def __repr__(self) -> str:
        return f"<site {self.address:#x} {self.op}>"


class Sites(Sequence[Site]):
    """The sites of an image, in table order."""

    def __init__(self, core: _core.ParavirtSites, ops: Sequence[str], name: Callable[[int], str | None]) -> None:
        self._core = core
        self._ops = ops
        self._name = name
        self._sites: list[Site] | None = None

    @property
    def layout(self) -> str:
        """The record layout every row was valid under."""
        return self._core.layout

    def by_section(self) -> list[tuple[str, int]]:
        """(section, number of sites), most first."""
        return self._core.by_section()

    def by_op(self) -> list[tuple[str, int]]:
        """(op, number of sites), most first."""
        return [(self.op_name(type), n) for type, n in self._core.by_type()]

    def op_name(self, type: int) -> str:
        """The op of a type; ``type N`` where nothing names it."""
        return self._ops[type] if type < len(self._ops) else f"type {type}"

    def count(self, value: object) -> Counter[object]:  # type: ignore[override]
        """How many sites share each value of an attribute: ``sites.count("op").most_common(3)``."""
        if value not in ("op", "type", "section", "symbol", "bytes", "address"):
            raise OpsError(f"sites cannot be counted by {value!r}: op, type, section, symbol, bytes or address")
        from collections import Counter

        return Counter(getattr(site, str(value)) for site in self)

    def at(self, address: int) -> Site | None:
        """The site that an address lies in, or None."""
        return next((s for s in self if s.address <= address < s.address + len(s.bytes)), None)

    def listing(self, *, names: bool = True) -> str:
        """One line per site: address, op, type, bytes, disassembly and, with names, the symbol it lies in."""
        return self._core.listing(list(self._ops), names)

    def _all(self) -> list[Site]:
        if self._sites is None:
            self._sites = [
                Site(address, section, code, (Row("paravirt", i, type, self.op_name(type), len, clobbers),), self._name)
                for i, (address, section, type, len, clobbers, code) in enumerate(self._core.rows())
            ]
        return self._sites

    def __len__(self) -> int:
        return len(self._core)

    def __iter__(self) -> Iterator[Site]:
        return iter(self._all())

    if TYPE_CHECKING:

        @overload
        def __getitem__(self, index: int) -> Site: ...
        @overload
        def __getitem__(self, index: slice) -> list[Site]: ...

    def __getitem__(self, index: int | slice) -> Site | list[Site]:
        return self._all()[index]
