"""Where the statements of one section lie: sizes of branches and fillings, then addresses into what waits for them.

A branch starts short and is made long if it does not reach, until all reach: the way GNU as relaxes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pvops.assembler.statements import Align, Branch, Code, Data, Encodable, Fixup, Label, Reach, Statement
from pvops.assembler.values import Local, Name, name_of
from pvops.errors import AssemblyError

#: The most bytes one section may have: more is a mistake.
LARGEST = 1 << 26


class Placed:
    """A section whose statements have their offsets.

    Attributes:
        section: its name, for messages.
        labels: with their offsets, in order.
        size: in bytes.
        align: the greatest alignment asked for.
    """

    def __init__(self, section: str, bits: int, statements: Sequence[Statement], codes: Sequence[Code]) -> None:
        self.section = section
        self.bits = bits
        self.statements = statements
        self.codes = codes
        self.labels: list[tuple[Label, int]] = []
        self.size = 0
        self.align = 1

    def resolve(self, address: int, places: Mapping[Name, int]) -> bytes:
        """The section's bytes at an address, every label's address known."""
        out = bytearray()
        for statement, code in zip(self.statements, self.codes, strict=True):
            raw = bytearray(code.bytes)
            for fixup in code.fixups:
                try:
                    value = fixup.value.resolve(places)
                    if fixup.relative:
                        value -= address + len(out) + len(raw)
                    raw[fixup.offset : fixup.offset + fixup.size] = _bytes(value, fixup, self.bits)
                except AssemblyError as error:
                    raise self._located(error, len(out), statement) from None
            out += raw
        return bytes(out)

    def _located(self, error: AssemblyError, offset: int, statement: Statement) -> AssemblyError:
        return located(error, self.section, self.labels, offset, statement)


def located(
    error: AssemblyError, section: str, labels: Sequence[tuple[Label, int]], offset: int, statement: Statement
) -> AssemblyError:
    """The error with its place: section, the label before it, the statement."""
    near = [(label, at) for label, at in labels if at <= offset and not isinstance(label.name, Local)]
    where = f"{section}+{offset:#x}"
    if near:
        where += f" ({name_of(near[-1][0].name)}+{offset - near[-1][1]:#x})"
    return AssemblyError(f"{where}: {str(statement).strip()}: {error}", reason=str(error), section=section)


def _bytes(value: int, fixup: Fixup, bits: int) -> bytes:
    width = 8 * fixup.size
    if bits == 32 and fixup.size == 4:
        value &= 0xFFFF_FFFF  # addresses wrap
    elif bits == 64 and fixup.signed and not fixup.relative and value >= 1 << 63:
        value -= 1 << 64  # the kernel's half of the address space is the negative one
    high = (1 << (width - 1)) if fixup.signed and bits == 64 else 1 << width
    if not -(1 << (width - 1)) <= value < high:
        what = "out of range: the distance" if fixup.relative else "the value"
        raise AssemblyError(f"{what} {value:#x} does not fit into {width} bits")
    return (value & ((1 << width) - 1)).to_bytes(fixup.size, "little")


def lay_out(statements: Sequence[Statement], bits: int, code: bool, section: str) -> Placed:
    """Gives every statement of a section its bytes and offset.

    Raises:
        AssemblyError: an instruction that does not exist, a duplicate label, a short branch that does not reach.
    """
    long: set[int] = set()
    fixed: dict[int, Code] = {}
    while True:
        placed = _place(statements, bits, code, section, fixed, long)
        grown = _too_far(placed, long)
        if not grown:
            return placed
        long |= grown


def _place(
    statements: Sequence[Statement], bits: int, code: bool, section: str, fixed: dict[int, Code], long: set[int]
) -> Placed:
    codes: list[Code] = []
    placed = Placed(section, bits, statements, codes)
    offsets: dict[Name, int] = {}
    offset = 0
    for n, statement in enumerate(statements):
        try:
            if isinstance(statement, Label):
                if statement.name in offsets:
                    raise AssemblyError(f"duplicate label {name_of(statement.name)}")
                offsets[statement.name] = offset
                placed.labels.append((statement, offset))
                made = Code(b"")
            elif isinstance(statement, Branch):
                made = _branch(statement, n in long)
            elif isinstance(statement, Align):
                placed.align = max(placed.align, statement.to)
                made = _filling(-offset % statement.to, statement.filled(code))
            elif isinstance(statement, Reach):
                if statement.start not in offsets:
                    raise AssemblyError(f"label {name_of(statement.start)} is not before it in {section}")
                made = _filling(max(0, statement.size - (offset - offsets[statement.start])), statement.fill)
            else:
                if n not in fixed:
                    fixed[n] = _code(statement, bits)
                made = fixed[n]
            if offset + len(made.bytes) > LARGEST:
                raise AssemblyError(f"more than {LARGEST} bytes")
        except AssemblyError as error:
            raise located(error, section, placed.labels, offset, statement) from None
        codes.append(made)
        offset += len(made.bytes)
    placed.size = offset
    return placed


def _code(statement: Statement, bits: int) -> Code:
    if isinstance(statement, Data):
        return statement.code
    if isinstance(statement, Encodable):
        return statement.encode(bits)
    raise AssemblyError(f"{type(statement).__name__} is no statement of a section")


def _filling(size: int, fill: int) -> Code:
    return Code(bytes([fill]) * size)


def _branch(statement: Branch, long: bool) -> Code:
    opcode, size = (statement.long, 4) if long else (statement.short, 1)
    fixup = Fixup(len(opcode), size, statement.target, relative=True, signed=True)
    return Code(opcode + bytes(size), (fixup,))


def _too_far(placed: Placed, long: set[int]) -> set[int]:
    """Short branches that do not reach, or leave the section, and have a long form."""
    offsets = {label.name: offset for label, offset in placed.labels}
    grown = set()
    offset = 0
    for n, (statement, code) in enumerate(zip(placed.statements, placed.codes, strict=True)):
        offset += len(code.bytes)
        if not isinstance(statement, Branch) or n in long:
            continue
        target = statement.target
        near = target.minus is None and target.plus in offsets
        distance = offsets[target.plus] + target.addend - offset if near and target.plus is not None else 1 << 32
        if not -128 <= distance <= 127:
            if not statement.long:
                error = AssemblyError("out of range: there is no long form of this branch")
                raise located(error, placed.section, placed.labels, offset - len(code.bytes), statement)
            grown.add(n)
    return grown
