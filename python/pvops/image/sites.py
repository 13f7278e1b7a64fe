"""Sites: the addresses a kernel may rewrite, each with the table rows that say so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pvops.errors import OpsError
from pvops.image.tables import TABLES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable
    from typing import overload

    from pvops.image.ops import KernelOps
    from pvops.image.view import KernelView


class Row:
    """One row of a table of sites. What a table does not have is None.

    Attributes:
        table: one of `TABLES`.
        index: its place in the table, from 0.
        len: length of the site in bytes.
        type: the op's number in ``paravirt_patch_template``.
        op: the op, ``pv_irq_ops.irq_enable``; ``type N`` where nothing names it.
        clobbers: registers the site lets go, as the era encodes them.
        feature: number of the feature an alternative asks for.
        inverted: it asks for its absence; of a jump label: it jumps where the key is off.
        direct_call: the alternative is a direct call of what the site's indirect call would call.
        key: address of the static key or static call key.
        target: address of an alternative's replacement, or where a jump label jumps to.
        constant: section of a run-time constant.
    """

    __slots__ = (
        "clobbers",
        "constant",
        "direct_call",
        "feature",
        "index",
        "inverted",
        "key",
        "len",
        "op",
        "table",
        "target",
        "type",
    )

    def __init__(
        self,
        table: str,
        index: int,
        len: int,
        *,
        type: int | None = None,
        op: str | None = None,
        clobbers: int | None = None,
        feature: int | None = None,
        inverted: bool | None = None,
        direct_call: bool | None = None,
        key: int | None = None,
        target: int | None = None,
        constant: str | None = None,
    ) -> None:
        self.table = table
        self.index = index
        self.len = len
        self.type = type
        self.op = op
        self.clobbers = clobbers
        self.feature = feature
        self.inverted = inverted
        self.direct_call = direct_call
        self.key = key
        self.target = target
        self.constant = constant

    def to_dict(self) -> dict[str, object]:
        """The row as JSON documents carry it: what the table has."""
        out: dict[str, object] = {"table": self.table, "index": self.index}
        if self.table == "paravirt" or self.op is not None:
            out |= {"type": self.type, "op": self.op}
        out["len"] = self.len
        if self.table == "paravirt":
            out["clobbers"] = self.clobbers
        for name in ("feature", "inverted", "direct_call", "constant"):
            value = getattr(self, name)
            if value is not None:
                out[name] = value
        for name in ("key", "target"):
            value = getattr(self, name)
            if value is not None:
                out[name] = f"{value:#x}"
        return out

    def __repr__(self) -> str:
        return f"<{self.table} row {self.index}>"


class Site:
    """An address the kernel may rewrite.

    Attributes:
        address: as linked.
        section: name of the section it lies in.
        bytes: what stands there as built, as long as the longest of its rows.
        rows: the table rows that name it, in the order the kernel applies them.
    """

    __slots__ = ("_view", "address", "bytes", "rows", "section")

    def __init__(self, view: KernelView, address: int, section: str, code: bytes, rows: tuple[Row, ...]) -> None:
        self._view = view
        self.address = address
        self.section = section
        self.bytes = code
        self.rows = rows

    @property
    def symbol(self) -> str | None:
        """Where it lies, ``do_syscall_64+0x3a``; None where the image names nothing there."""
        return self._view.place(self.address)

    @property
    def op(self) -> str | None:
        """The op it calls; None where it calls none."""
        return next((row.op for row in self.rows if row.op is not None), None)

    @property
    def type(self) -> int | None:
        """The number of that op."""
        return next((row.type for row in self.rows if row.type is not None), None)

    def __repr__(self) -> str:
        return f"<site {self.address:#x} {', '.join(row.table for row in self.rows)}>"


class Sites(Sequence[Site]):
    """The sites of an image: those of ``.parainstructions`` in the table's order, then all others by address.

    Args:
        view: the image.
        ops: gives its ops, asked where a row names one.
        order: gives the tables in the order of the kernel's passes, asked where several tables are read.
        tables: those to read.
    """

    def __init__(
        self,
        view: KernelView,
        ops: Callable[[], KernelOps],
        order: Callable[[], Sequence[str]],
        tables: Sequence[str] = TABLES,
    ) -> None:
        self._view = view
        self._ops = ops
        self._order = order
        self._tables = tables
        self._sites: list[Site] | None = None

    def of_table(self, table: str) -> Sites:
        """The sites of one table, with that table's rows alone.

        Raises:
            OpsError: there is no such table.
        """
        if table not in TABLES:
            raise OpsError(f"no table {table} (there are {', '.join(TABLES)})")
        return Sites(self._view, self._ops, self._order, (table,))

    def count(self, value: object) -> Counter[object]:  # type: ignore[override]
        """How many sites share each value of an attribute, None left out: ``sites.count("op").most_common(3)``."""
        from collections import Counter

        if value not in ("op", "type", "section", "symbol", "bytes", "address"):
            raise OpsError(f"sites cannot be counted by {value!r}: op, type, section, symbol, bytes or address")
        found = (getattr(site, str(value)) for site in self)
        return Counter(one for one in found if one is not None)

    def at(self, address: int) -> Site | None:
        """The site that an address lies in, or None."""
        found = self.within(address, address + 1)
        return found[0] if found else None

    def within(self, low: int, high: int) -> list[Site]:
        """The sites that touch the addresses from ``low`` up to but not including ``high``, by address."""
        return sorted(self._read(low, high), key=lambda site: site.address)

    def _all(self) -> list[Site]:
        if self._sites is None:
            self._sites = self._read(0, (1 << 64) - 1)
        return self._sites

    def _read(self, low: int, high: int) -> list[Site]:
        view = self._view
        rows: dict[int, list[Row]] = {}
        for table in self._in_order():
            for address, row in _rows(view, self._ops, table, low, high):
                rows.setdefault(address, []).append(row)
        sections = [(address, address + size, name) for name, address, size, _ in view.image.sections() if size]
        first = {address for address, found in rows.items() if any(row.table == "paravirt" for row in found)}
        order = [*(a for a in rows if a in first), *sorted(a for a in rows if a not in first)]
        return [_site(view, address, rows[address], sections) for address in order]

    def _in_order(self) -> list[str]:
        """The tables, that of the paravirt sites first so that its order is kept, then as the kernel applies them."""
        if len(self._tables) == 1:
            return list(self._tables)
        applied = list(self._order())
        return sorted(self._tables, key=lambda t: applied.index(t) if t in applied else len(applied))

    def __len__(self) -> int:
        return len(self._all())

    def __iter__(self) -> Iterator[Site]:
        return iter(self._all())

    if TYPE_CHECKING:

        @overload
        def __getitem__(self, index: int) -> Site: ...
        @overload
        def __getitem__(self, index: slice) -> list[Site]: ...

    def __getitem__(self, index: int | slice) -> Site | list[Site]:
        return self._all()[index]


def _site(view: KernelView, address: int, rows: list[Row], sections: list[tuple[int, int, str]]) -> Site:
    length = max(row.len for row in rows)
    code = view.image.read(address, length) or view.image.read(address, rows[0].len) or b""
    section = next((name for low, high, name in sections if low <= address < high), "")
    return Site(view, address, section, code, tuple(rows))


def _rows(view: KernelView, ops: Callable[[], KernelOps], table: str, low: int, high: int) -> Iterator[tuple[int, Row]]:
    if table == "paravirt":
        yield from _paravirt_rows(view, ops, low, high)
    elif table == "runtime_const":
        for section, width, addresses in view.tables.constants():
            for index, address in enumerate(addresses):
                if address < high and address + width > low:
                    yield address, Row(table, index, width, constant=section)
    else:
        for index, address, len, feature, inverted, direct, key, target in view.tables.rows(table, low, high):
            op = direct_op(view, ops(), address) if direct else None
            yield (
                address,
                Row(
                    table,
                    index,
                    len,
                    type=None if op is None else op[0],
                    op=None if op is None else op[1],
                    feature=feature,
                    inverted=inverted,
                    direct_call=direct or None,
                    key=key,
                    target=target,
                ),
            )


def _paravirt_rows(view: KernelView, ops: Callable[[], KernelOps], low: int, high: int) -> Iterator[tuple[int, Row]]:
    if view.paravirt is None:
        return
    names = ops().names
    count = len(names)
    for index, (address, _, type, length, clobbers, _) in enumerate(view.paravirt.rows()):
        if address < high and address + length > low:
            op = names[type] if type < count else f"type {type}"
            yield address, Row("paravirt", index, length, type=type, op=op, clobbers=clobbers)


def direct_op(view: KernelView, ops: KernelOps, address: int) -> tuple[int, str] | None:
    """The op that a direct-call row's site calls: the slot its ``call *mem`` goes through."""
    code = view.image.read(address, 6)
    if code is None or code[:2] != b"\xff\x15":
        return None
    displacement = int.from_bytes(code[2:], "little", signed=True)
    slot = displacement & 0xFFFFFFFF if view.bits == 32 else address + 6 + displacement
    index = ops.by_slot.get(slot)
    return None if index is None else (index, ops.names[index])
