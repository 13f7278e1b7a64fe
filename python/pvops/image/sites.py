"""Sites: the addresses a kernel may rewrite, each with the table rows that say so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import pvops._core as _core
from pvops import display
from pvops.errors import ImageError, OpsError, nearest, there_are
from pvops.image.tables import TABLES
from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable
    from typing import Any, Protocol, overload

    from pvops.image.ops import KernelOps
    from pvops.image.view import KernelView

    class HasSites(Protocol):
        """A kernel, as far as its sites go."""

        @property
        def sites(self) -> Sites: ...


class Row(NamedTuple):
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

    table: str
    index: int  # type: ignore[assignment]  # tuple's method of this name is not meant
    len: int
    type: int | None = None
    op: str | None = None
    clobbers: int | None = None
    feature: int | None = None
    inverted: bool | None = None
    direct_call: bool | None = None
    key: int | None = None
    target: int | None = None
    constant: str | None = None

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
    """An address the kernel may rewrite; what is asked of it is looked up in the columns of its `Sites`."""

    __slots__ = ("_address", "_known", "_number", "_sites")

    def __init__(
        self,
        sites: Sites,
        number: int,
        address: int | None = None,
        known: tuple[int, bytes, tuple[Row, ...]] | None = None,
    ) -> None:
        self._sites = sites
        self._number = number
        self._address = address
        self._known = known

    def _looked_up(self) -> tuple[int, bytes, tuple[Row, ...]]:
        if self._known is None:
            address, code, rows = self._sites.columns.site(self._number)
            self._known = address, code, tuple(Row(*row) for row in rows)
        return self._known

    @property
    def address(self) -> int:
        """Where it is, as linked."""
        if self._address is None:
            self._address = self._looked_up()[0]
        return self._address

    @property
    def bytes(self) -> bytes:
        """What stands there as built, as long as the longest of its rows."""
        return self._looked_up()[1]

    @property
    def rows(self) -> tuple[Row, ...]:
        """The table rows that name it, in the order the kernel applies them."""
        return self._looked_up()[2]

    @property
    def section(self) -> str:
        """Name of the section it lies in; empty where it lies in none."""
        return self._sites.section_of(self.address)

    @property
    def symbol(self) -> str | None:
        """Where it lies, ``do_syscall_64+0x3a``; None where the image names nothing there."""
        return self._sites.view.place(self.address)

    @property
    def op(self) -> str | None:
        """The op it calls; None where it calls none."""
        return next((row.op for row in self.rows if row.op is not None), None)

    @property
    def type(self) -> int | None:
        """The number of that op."""
        return next((row.type for row in self.rows if row.type is not None), None)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Site):
            return NotImplemented
        return self._sites.view.image is other._sites.view.image and self._looked_up()[:2] == other._looked_up()[:2]

    def __hash__(self) -> int:
        return hash(self.address)

    def __reduce__(self) -> tuple[object, ...]:
        return Site, (self._sites, self._number, self.address, self._looked_up())

    def __repr__(self) -> str:
        return f"<site {self.address:#x} {', '.join(row.table for row in self.rows)}>"


class Counts(NamedTuple):
    """How many there are, most first.

    Attributes:
        rows: rows of each table, in the tables' order.
        sections: sites in each section.
        ops: sites of each op.
        shared: sites that several tables name, by those tables (``paravirt + alternatives``).
    """

    rows: Mapping[str, int]
    sections: Mapping[str, int]
    ops: Mapping[str, int]
    shared: Mapping[str, int]


class Sites(Sequence[Site]):
    """The sites of an image: those of ``.parainstructions`` in the table's order, then all others by address.

    The core keeps them as columns; a `Site` is made when one is asked for.

    >>> sites = pvops.open("vmlinux-sample").sites
    >>> sites[0]
    <site 0xffffffff81000433 paravirt>
    >>> [site] = sites["sample_lock+3"]
    >>> site.op, site.symbol, site.bytes.hex(" ")
    ('pv_lock_ops.queued_spin_lock_slowpath', 'sample_lock+0x3', 'ff 15 9f fe 9f 00')
    >>> site.address in sites, sites[0xffffffff81000453] == site, 0x1000 in sites
    (True, True, False)
    >>> sites[1:3]
    [<site 0xffffffff8100043b paravirt>, <site 0xffffffff81000453 paravirt>]
    >>> len(sites.of_table("paravirt").for_op("pv_irq_ops.irq_enable"))
    3

    Args:
        view: the image.
        ops: gives its ops, asked where a table may name one.
        order: gives the tables in the order of the kernel's passes, asked where several tables are read.
        tables: those to read.
        op: only the sites of this op.
    """

    def __init__(
        self,
        view: KernelView,
        ops: Callable[[], KernelOps],
        order: Callable[[], Sequence[str]],
        tables: Sequence[str] = TABLES,
        op: str | None = None,
    ) -> None:
        self.view = view
        self._ops = ops
        self._order = order
        self._tables = tables
        self._op = op

    def __reduce__(self) -> tuple[object, ...]:
        return _sites_of, (self.view, self._tables, self._op)

    def of_table(self, table: str) -> Sites:
        """The sites of one table, with that table's rows alone.

        Raises:
            OpsError: there is no such table.
        """
        if table not in TABLES:
            raise OpsError(f"no table {table}{there_are(table, TABLES)}")
        return Sites(self.view, self._ops, self._order, (table,), self._op)

    def for_op(self, op: str) -> Sites:
        """The sites that call an op.

        Raises:
            OpsError: the kernel has no such op.
        """
        names = self._ops().names
        if op not in names:
            raise OpsError(f"{self.view.name}: no op {op}{nearest(op, names)}", file=self.view.name)
        return Sites(self.view, self._ops, self._order, self._tables, op)

    @cached_property
    def columns(self) -> _core.Columns:
        """The rows of all sites of these tables as columns: ``numpy.frombuffer(columns.column("address"), "u8")``.

        Raises:
            TableError: a table is malformed.
        """
        return self._columns()

    def _columns(self, *range: int) -> _core.Columns:
        ops = self._ops() if {"paravirt", "alternatives"} & set(self._tables) else None
        names, slots = (list(ops.names), dict(ops.by_slot)) if ops is not None else ([], {})
        return _core.Columns(self.view.tables, self._in_order(), names, slots, *range)

    @cached_property
    def chosen(self) -> list[int] | None:
        """Numbers of the sites among the columns' where they are those of one op; None where they are all."""
        return None if self._op is None else self.columns.of_op(self._op)

    def count(self, value: object) -> Counter[Any]:  # type: ignore[override]
        """How many sites share each value of an attribute, None left out: ``sites.count("op").most_common(3)``."""
        from collections import Counter

        if value not in ("op", "type", "section", "symbol", "bytes", "address"):
            raise OpsError(f"sites cannot be counted by {value!r}: op, type, section, symbol, bytes or address")
        if value in ("op", "section"):
            _, sections, ops, _ = self.columns.counts(self.chosen)
            return Counter(dict(ops if value == "op" else sections))
        found = (getattr(site, str(value)) for site in self)
        return Counter(one for one in found if one is not None)

    def counts(self) -> Counts:
        """Rows and sites by table, section, op, and by the tables that share a site; most first."""
        return Counts(*map(dict, self.columns.counts(self.chosen)))

    def at(self, address: int) -> Site | None:
        """The site that an address lies in, or None."""
        found = self.within(address, address + 1)
        return found[0] if found else None

    def within(self, low: int, high: int) -> list[Site]:
        """The sites that touch the addresses from ``low`` up to but not including ``high``, by address."""
        low, high = max(low, 0), min(high, (1 << 64) - 1)
        found = self.columns.within(low, high) if low < high else []
        if self.chosen is not None:
            chosen = set(self.chosen)
            found = [number for number in found if number in chosen]
        return [Site(self, number) for number in found]

    def near(self, low: int, high: int) -> list[Site]:
        """As `within`, for who asks once: the sites elsewhere are not put into order first."""
        part = Sites(self.view, self._ops, self._order, self._tables, self._op)
        low, high = max(low, 0), min(high, (1 << 64) - 1)
        if "columns" not in self.__dict__ and low < high:
            part.columns = self._columns(low, high)
            return part.within(low, high)
        return self.within(low, high)

    def unlisted(self, address: int, code: bytes) -> Site:
        """Code that no table names, as a site without rows."""
        return Site(self, -1, address, (address, code, ()))

    def nearest(self, address: int) -> Site | None:
        """The site whose address is nearest, whatever its op; None where there is no site."""
        found = self.columns.nearest(address)
        return None if found is None else Site(self, found)

    @cached_property
    def _sections(self) -> list[tuple[int, int, str]]:
        return [(address, address + size, name) for name, address, size, _ in self.view.image.sections() if size]

    def section_of(self, address: int) -> str:
        """Name of the section that an address lies in; empty where it lies in none."""
        return next((name for low, high, name in self._sections if low <= address < high), "")

    def _in_order(self) -> list[str]:
        """The tables, that of the paravirt sites first so that its order is kept, then as the kernel applies them."""
        if len(self._tables) == 1:
            return list(self._tables)
        applied = list(self._order())
        return sorted(self._tables, key=lambda t: applied.index(t) if t in applied else len(applied))

    def __repr__(self) -> str:
        what = ", ".join(self._tables) if len(self._tables) < len(TABLES) else "every table"
        return f"<Sites of {self.view.release or self.view.name}, {what}{'' if self._op is None else f', {self._op}'}>"

    def _repr_html_(self) -> str:
        return display.show(self, "fragment")

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The rows for pyarrow, polars, duckdb: a stream of one batch, whose numbers are not copied; those of one op
        are. Its columns are the attributes of `Row`, and the address. Another schema than its own is not made."""
        return self.columns.arrow(self.chosen)

    def __contains__(self, value: object) -> bool:
        """Whether a site is one of these, an address lies in one, or one is at a place (``"do_syscall_64"``)."""
        if isinstance(value, int):
            return self.at(value) is not None
        if isinstance(value, str):
            try:
                return bool(self[value])
            except ImageError:
                return False
        return isinstance(value, Site) and self.at(value.address) is not None

    def __len__(self) -> int:
        if self._op is None and "columns" not in self.__dict__:
            # Without columns: what names ops takes longer than counting.
            return self.view.tables.count_sites(list(self._tables))
        return len(self.columns) if self.chosen is None else len(self.chosen)

    def __iter__(self) -> Iterator[Site]:
        address, first = self.columns.column("address"), self.columns.column("first")
        numbers = range(len(self.columns)) if self.chosen is None else self.chosen
        return (Site(self, number, address[first[number]]) for number in numbers)

    if TYPE_CHECKING:

        @overload
        def __getitem__(self, index: int) -> Site: ...
        @overload
        def __getitem__(self, index: slice | str) -> list[Site]: ...

    def __getitem__(self, index: int | slice | str) -> Site | list[Site]:
        """A site by its place in the sequence or by any address in it; a slice; or those at a place, as the command
        line takes it (``"do_syscall_64"``).

        Raises:
            IndexError: no such place, or no site at that address.
            ImageError: no such symbol.
        """
        if isinstance(index, str):
            from pvops.image.places import parse

            return [site for place in parse(self.view, index) for site in self.within(place.address, place.end)]
        # No image has as many sites as its lowest address.
        if isinstance(index, int) and index >= self.view.lowest:
            site = self.at(index)
            if site is None:
                raise IndexError(f"no site at {index:#x}")
            return site
        numbers = range(len(self.columns)) if self.chosen is None else self.chosen
        if isinstance(index, slice):
            return [Site(self, number) for number in numbers[index]]
        if not hasattr(index, "__index__"):
            raise TypeError(f"a site is asked for by number, address or place, not by {type(index).__name__}")
        try:
            return Site(self, numbers[index])
        except IndexError:
            raise IndexError(f"no site {index}: there are {len(numbers):,}") from None


def _sites_of(kernel: HasSites, tables: Sequence[str], op: str | None) -> Sites:
    """The sites of a kernel again, in the process that they crossed to."""
    every = kernel.sites
    return Sites(every.view, every._ops, every._order, tables, op)


def direct_op(view: KernelView, ops: KernelOps, address: int) -> tuple[int, str] | None:
    """The op that a direct-call row's site calls: the slot its ``call *mem`` goes through."""
    slot = view.image.called_pointer(address)
    index = None if slot is None else ops.by_slot.get(slot)
    return None if index is None else (index, ops.names[index])
