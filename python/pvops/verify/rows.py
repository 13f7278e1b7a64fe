"""Rows that are made when one is asked for, and then kept; they cross processes as what was made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

from pvops.types_only import Generic, TypeVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import overload

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
N = TypeVar("N", bound=tuple[object, ...])

#: How many rows are shown at a prompt.
_SHOWN = 3


class Later(Generic[T]):
    """A value that is made when it is asked for.

    Args:
        make: makes it.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make

    @cached_property
    def value(self) -> T:
        """The value."""
        return self._make()

    def __reduce__(self) -> tuple[object, ...]:
        return _made, (self.value,)

    def __eq__(self, other: object) -> bool:
        return self.value == other.value if isinstance(other, Later) else NotImplemented

    __hash__ = None  # type: ignore[assignment]


def _made(value: T) -> Later[T]:
    return Later(lambda: value)


class Rows(Sequence[T_co]):
    """A sequence whose rows are made when the first is asked for.

    Args:
        make: makes all of them.
    """

    def __init__(self, make: Callable[[], Sequence[T_co]]) -> None:
        self._later = Later(make)

    @property
    def _rows(self) -> Sequence[T_co]:
        return self._later.value

    def __len__(self) -> int:
        return len(self._rows)

    if TYPE_CHECKING:

        @overload
        def __getitem__(self, index: int) -> T_co: ...
        @overload
        def __getitem__(self, index: slice) -> Sequence[T_co]: ...

    def __getitem__(self, index: int | slice) -> T_co | Sequence[T_co]:
        return self._rows[index]

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[object, ...]:
        return _rows, (list(self._rows),)

    def __repr__(self) -> str:
        shown = [repr(row) for row in self._rows[:_SHOWN]]
        more = [f"… {len(self._rows) - _SHOWN:,} more"] if len(self._rows) > _SHOWN else []
        return f"[{', '.join(shown + more)}]"


class ArrowRows(Rows[T_co]):
    """Rows that pyarrow, polars and duckdb take as they are (``__arrow_c_stream__``): numbers instead of names.

    Args:
        make: makes all of them.
        stream: makes Arrow's stream of them.
    """

    def __init__(self, make: Callable[[], Sequence[T_co]], stream: Callable[[], object]) -> None:
        super().__init__(make)
        self._stream = stream

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """A stream of one batch; another schema than its own is not made."""
        return self._stream()


class NumberedRows(ArrowRows[T_co], Generic[T_co, N]):
    """Rows that are made of the core's numbers, which say how many there are of a kind before one is made.

    Args:
        numbers: gives the numbers, a tuple a row.
        make: makes rows of some of them.
        stream: makes Arrow's stream of all.
    """

    def __init__(
        self,
        numbers: Callable[[], Sequence[N]],
        make: Callable[[Sequence[N]], Sequence[T_co]],
        stream: Callable[[], object],
    ) -> None:
        self._numbers = Later(numbers)
        super().__init__(lambda: make(self._numbers.value), stream)

    def __len__(self) -> int:
        return len(self._numbers.value)

    def how_many(self, wanted: Callable[[N], bool]) -> int:
        """Of how many rows the numbers are wanted."""
        return sum(map(wanted, self._numbers.value))


def _rows(made: Sequence[T_co]) -> Rows[T_co]:
    return Rows(lambda: made)


class Spans(Sequence[tuple[int, int, str]]):
    """Stretches of text: (address, length, table) each. As columns: they are 100,000, and cross processes.

    Args:
        make: makes the columns: addresses, lengths and tables, 8, 4 and 1 bytes each, and the names of the tables.
    """

    def __init__(self, make: Callable[[], tuple[bytes, bytes, bytes, Sequence[str]]]) -> None:
        self._columns = Later(make)

    def __len__(self) -> int:
        return len(self._columns.value[2])

    if TYPE_CHECKING:

        @overload
        def __getitem__(self, index: int) -> tuple[int, int, str]: ...
        @overload
        def __getitem__(self, index: slice) -> Sequence[tuple[int, int, str]]: ...

    def __getitem__(self, index: int | slice) -> tuple[int, int, str] | Sequence[tuple[int, int, str]]:
        addresses, lengths, tables, names = self._columns.value
        at, of = memoryview(addresses).cast("Q"), memoryview(lengths).cast("I")
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return at[index], of[index], names[tables[index]]

    def __iter__(self) -> Iterator[tuple[int, int, str]]:
        addresses, lengths, tables, names = self._columns.value
        at, of = memoryview(addresses).cast("Q"), memoryview(lengths).cast("I")
        return ((address, length, names[table]) for address, length, table in zip(at, of, tables, strict=True))

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[object, ...]:
        return _spans, (self._columns.value,)

    def __repr__(self) -> str:
        return f"<Spans: {len(self):,} stretches>"


class ArrowSpans(Spans):
    """Likewise, and Arrow's stream of them."""

    def __init__(
        self, make: Callable[[], tuple[bytes, bytes, bytes, Sequence[str]]], stream: Callable[[], object]
    ) -> None:
        super().__init__(make)
        self._stream = stream

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """A stream of one batch; another schema than its own is not made."""
        return self._stream()


def _spans(columns: tuple[bytes, bytes, bytes, Sequence[str]]) -> Spans:
    return Spans(lambda: columns)
