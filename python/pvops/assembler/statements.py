"""What a section is made of: labels, data, alignment, and code. A statement is a value that is given to a section."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pvops.assembler.values import Local, Name, Value, name_of, number
from pvops.errors import AssemblyError
from pvops.tuples import NamedTuple

#: What a symbol may be called, as GNU as has it.
_NAME = re.compile(r"[A-Za-z_.$][\w.$]*", re.ASCII)


class Fixup(NamedTuple):
    """Bytes that wait for an address.

    Attributes:
        offset: where in the statement's bytes.
        size: how many bytes.
        value: what goes there.
        relative: counted from the end of the statement (branches, ``foo(%rip)``), else absolute.
        signed: the CPU extends its sign: on x86-64 only addresses within 2 GiB of either end fit into four bytes.
    """

    offset: int
    size: int
    value: Value
    relative: bool = False
    signed: bool = False


class Code(NamedTuple):
    """Bytes as far as they are known without addresses."""

    bytes: bytes
    fixups: tuple[Fixup, ...] = ()


class Statement:
    """One statement. ``str()`` is its line of GNU assembler source."""

    __slots__ = ()


#: What a section takes: statements, and whatever macros return, nested as it comes.
Body = Statement | Iterable["Body"]


@dataclass(frozen=True, slots=True, eq=False)
class Label(Statement):
    """``name:``. A symbol of the image unless it is a `Local`."""

    name: Name
    function: bool | None = None

    def __post_init__(self) -> None:
        if isinstance(self.name, str) and not _NAME.fullmatch(self.name):
            raise AssemblyError(f"{self.name!r} is no name of a label")

    def __str__(self) -> str:
        return f"{name_of(self.name)}:"


@dataclass(frozen=True, slots=True, eq=False)
class Align(Statement):
    """``.balign``: up to a multiple of this many bytes, filled with one byte (``0x90`` in code, 0 in data)."""

    to: int
    fill: int | None = None

    def __post_init__(self) -> None:
        if self.to <= 0 or self.to & (self.to - 1):
            raise AssemblyError(f"alignment {self.to} is no power of two")

    def filled(self, code: bool) -> int:
        """The byte it is filled with, in code or in data."""
        return (0x90 if code else 0) if self.fill is None else self.fill

    def __str__(self) -> str:
        return f"\t.balign {self.to}" + ("" if self.fill is None else f", {self.fill:#x}")


@dataclass(frozen=True, slots=True, eq=False)
class Reach(Statement):
    """Filled with one byte until so many lie between a label and here; nothing where there are as many already."""

    start: Name
    size: int
    fill: int = 0x90

    def __str__(self) -> str:
        missing = f"({self.size}-(.-{name_of(self.start)}))"
        return f"\t.skip -(({missing}>0)*{missing}), {self.fill:#x}"


@dataclass(frozen=True, slots=True, eq=False)
class Data(Statement):
    """Data that is written as it is: ``.byte``, ``.short``, ``.long``, ``.quad``, ``.ascii``, ``.skip``."""

    text: str
    code: Code

    def __str__(self) -> str:
        return f"\t{self.text}"


@dataclass(frozen=True, slots=True, eq=False, init=False)
class Within(Statement):
    """``.pushsection name … .popsection``: these statements go to the end of another section."""

    section: str
    body: tuple[Body, ...]

    def __init__(self, section: str, *body: Body) -> None:
        object.__setattr__(self, "section", section)
        object.__setattr__(self, "body", body)

    def __str__(self) -> str:
        return f'\t.pushsection {self.section},"a"'


class Encodable(Statement):
    """An instruction that takes the same bytes wherever it stands, but for its fixups."""

    __slots__ = ()

    def encode(self, bits: int) -> Code:
        """Its bytes for 32 or 64 bits; `AssemblyError` where there is no such instruction."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, eq=False)
class Branch(Statement):
    """A jump that is short where its target is near enough, and long elsewhere.

    Attributes:
        short: opcode of the form with one byte of distance.
        long: opcode of the form with four, empty where there is none (``loop``, ``jecxz``).
    """

    mnemonic: str
    short: bytes
    long: bytes
    target: Value

    def __str__(self) -> str:
        return f"\t{self.mnemonic} {self.target}"


def flat(body: Iterable[Body]) -> Iterator[Statement]:
    """The statements of what macros return, in order.

    Raises:
        AssemblyError: something that is no statement.
    """
    for part in body:
        if isinstance(part, Statement):
            yield part
        elif isinstance(part, str | bytes | Value) or not isinstance(part, Iterable):
            raise AssemblyError(f"{part!r} is no statement")
        else:
            yield from flat(part)


def label(name: Name) -> Label:
    """``name:``."""
    return Label(name)


def function(name: str, *body: Body) -> tuple[Body, ...]:
    """``ENTRY(name)`` and its instructions: aligned to 16 bytes, and a function in the symbol table.

    Between functions stand breakpoints (``int3``), as in kernels since 6.0: who runs off the end of one stops.
    """
    return (Align(16, 0xCC), Label(name, True), *body)


def align(to: int, fill: int | None = None) -> Align:
    """``.balign to``: nops in code, zeros in data, or ``fill``."""
    return Align(to, fill)


def u8(*values: Value | int) -> Data:
    """``.byte``."""
    return _integers("byte", 1, values)


def u16(*values: Value | int) -> Data:
    """``.short``."""
    return _integers("short", 2, values)


def u32(*values: Value | int) -> Data:
    """``.long``."""
    return _integers("long", 4, values)


def u64(*values: Value | int) -> Data:
    """``.quad``."""
    return _integers("quad", 8, values)


def asciz(text: str) -> Data:
    """``.asciz``: UTF-8 with a zero behind it."""
    data = text.encode() + b"\0"
    return Data(".byte " + ", ".join(map(hex, data)), Code(data))


def data(raw: bytes) -> Data:
    """Bytes."""
    return Data(".byte " + ", ".join(map(hex, raw)) if raw else "", Code(raw))


def space(size: int, fill: int = 0) -> Data:
    """``.skip size``."""
    if size < 0:
        raise AssemblyError(f"a space of {size} bytes")
    return Data(f".skip {size}, {fill:#x}", Code(bytes([fill]) * size))


def _integers(directive: str, size: int, values: tuple[Value | int, ...]) -> Data:
    text = f".{directive} " + ", ".join(str(number(v)) for v in values)
    fixups = tuple(Fixup(n * size, size, number(value)) for n, value in enumerate(values))
    return Data(text, Code(bytes(size * len(values)), fixups))


__all__ = [
    "Body",
    "Local",
    "Within",
    "align",
    "asciz",
    "data",
    "function",
    "label",
    "space",
    "u8",
    "u16",
    "u32",
    "u64",
]
