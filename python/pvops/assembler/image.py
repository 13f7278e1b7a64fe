"""An image in the making: sections that take statements, and the ELF file that is made of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise

from pvops.assembler import elf
from pvops.assembler.layout import Placed, lay_out
from pvops.assembler.statements import Align, Body, Statement, Within, flat
from pvops.assembler.values import Name, name_of
from pvops.errors import AssemblyError
from pvops.tuples import NamedTuple

#: Where a kernel's text is linked to: 2.6.24's _text on i386, ``__START_KERNEL_map`` + 16 MiB on x86-64.
BASES = {32: 0xC010_0000, 64: 0xFFFF_FFFF_8100_0000}

#: What a section may be called.
_NAME = re.compile(r"[\w.$-]+", re.ASCII)

#: Flags of sections by the start of their names; everything else is read-only data.
_FLAGS = {
    ".text": elf.ALLOC | elf.EXECUTE,
    ".init.text": elf.ALLOC | elf.EXECUTE,
    ".altinstr_replacement": elf.ALLOC | elf.EXECUTE,
    ".data": elf.ALLOC | elf.WRITE,
    ".bss": elf.ALLOC | elf.WRITE,
}


class Section:
    """A section as it grows. Call it with statements, in order.

    Attributes:
        address: where it starts, or None to follow the section before it, on a page of its own.
        flags: `elf.WRITE`, `elf.EXECUTE`, always `elf.ALLOC`.
    """

    def __init__(self, image: Image, name: str, address: int | None, flags: int) -> None:
        self.image = image
        self.name = name
        self.address = address
        self.flags = flags
        self.statements: list[Statement] = []

    def __call__(self, *body: Body) -> None:
        """Adds statements."""
        for statement in flat(body):
            if isinstance(statement, Within):
                self.image.section(statement.section)(*statement.body)
            else:
                self.statements.append(statement)

    @property
    def code(self) -> bool:
        """Whether it is executed: then it is filled with nops."""
        return bool(self.flags & elf.EXECUTE)


class Built(NamedTuple):
    """An image with everything in its place.

    Attributes:
        bits: 32 or 64.
        entry: where it starts.
        sections: name → address and bytes, in order of addresses.
        symbols: name → address.
        elf: the file.
    """

    bits: int
    entry: int
    sections: Mapping[str, tuple[int, bytes]]
    symbols: Mapping[str, int]
    elf: bytes


class Image:
    """An image to be assembled.

    Args:
        bits: 32 or 64.
        base: where ``.text`` starts; as kernels are linked unless given.
    """

    def __init__(self, bits: int = 32, base: int | None = None) -> None:
        if bits not in BASES:
            raise AssemblyError(f"an image of {bits} bits: 32 or 64")
        self.bits = bits
        self.word = bits // 8
        self.sections: dict[str, Section] = {}
        self.text = self.section(".text", address=BASES[bits] if base is None else base)

    def section(self, name: str, *, address: int | None = None, flags: int | None = None) -> Section:
        """The section of this name; made if there is none yet.

        Args:
            name: ``.init.text``, ``.data``, ``.rodata``, ….
            address: where it starts.
            flags: see `Section`; from its name unless given.

        Raises:
            AssemblyError: it has another address already, or this is no name.
        """
        found = self.sections.get(name)
        if found is None:
            if not _NAME.fullmatch(name):
                raise AssemblyError(f"{name!r} is no name of a section")
            if flags is None:
                flags = _FLAGS.get(name, elf.ALLOC)
            found = self.sections[name] = Section(self, name, address, flags | elf.ALLOC)
        elif address is not None and address != found.address:
            raise AssemblyError(f"{name}: already at {found.address and hex(found.address)}", section=name)
        return found

    @property
    def data(self) -> Section:
        """``.data``."""
        return self.section(".data")

    @property
    def rodata(self) -> Section:
        """``.rodata``."""
        return self.section(".rodata")

    @property
    def init_text(self) -> Section:
        """``.init.text``, which a kernel frees after booting."""
        return self.section(".init.text")

    def build(self, entry: str | None = None) -> Built:
        """Gives everything its place.

        Args:
            entry: the label where it starts; the start of ``.text`` unless given.

        Raises:
            AssemblyError: an undefined or duplicate label, a branch or a value out of range, sections that overlap, an
                instruction that does not exist; the message names section and label.
        """
        placed = {name: lay_out(section.statements, self.bits, section.code, name) for name, section in self._used()}
        addresses = self._addresses(placed)
        names: dict[Name, int] = {}
        symbols: list[elf.ElfSymbol] = []
        for index, (name, part) in enumerate(placed.items()):
            section = self.sections[name]
            for label, offset in part.labels:
                if label.name in names:
                    raise AssemblyError(f"{name}: duplicate label {name_of(label.name)}", section=name)
                names[label.name] = addresses[name] + offset
                if isinstance(label.name, str):
                    function = section.code if label.function is None else label.function
                    symbols.append(elf.ElfSymbol(label.name, addresses[name] + offset, index, function))
        contents = {name: (addresses[name], part.resolve(addresses[name], names)) for name, part in placed.items()}
        start = addresses[".text"] if entry is None else names.get(entry)
        if start is None:
            raise AssemblyError(f"entry: undefined label {entry}")
        parts = [
            elf.ElfSection(name, address, raw, self.sections[name].flags, align=placed[name].align)
            for name, (address, raw) in contents.items()
        ]
        file = elf.write(self.bits, parts, symbols, elf.physical(start))
        return Built(self.bits, start, contents, {n: a for n, a in names.items() if isinstance(n, str)}, file)

    def elf(self, entry: str | None = None) -> bytes:
        """The ELF file; see `build`."""
        return self.build(entry).elf

    def source(self) -> str:
        """The same as source for GNU as (AT&T syntax), to read, or to assemble with ``as --32`` or ``--64``."""
        lines: list[str] = []
        for number, (name, section) in enumerate(self._used()):
            flags = "a" + "w" * bool(section.flags & elf.WRITE) + "x" * bool(section.flags & elf.EXECUTE)
            lines += [f'\t.section {name},"{flags}",@progbits', f".Lsection_{number}:"]
            for statement in section.statements:
                if isinstance(statement, Align) and section.code:
                    # Told to align with nops, GNU as would take long ones.
                    missing = f"(-(.-.Lsection_{number}))&{statement.to - 1}"
                    lines.append(f"\t.skip {missing}, {statement.filled(True):#x}")
                else:
                    lines.append(str(statement))
        return "\n".join(lines) + "\n"

    def _used(self) -> Iterator[tuple[str, Section]]:
        return ((name, s) for name, s in self.sections.items() if s.statements or name == ".text")

    def _addresses(self, placed: Mapping[str, Placed]) -> dict[str, int]:
        at: dict[str, int] = {}
        following = 0
        for name, part in placed.items():
            given = self.sections[name].address
            address = -(-following // elf.PAGE) * elf.PAGE if given is None else given
            if address % part.align:
                raise AssemblyError(f"{name}: at {address:#x}, but aligned to {part.align}", section=name)
            if address + part.size > 1 << self.bits:
                raise AssemblyError(f"{name}: ends behind the address space", section=name)
            at[name] = address
            following = address + part.size
        in_order = sorted(at, key=at.__getitem__)
        for low, high in pairwise(in_order):
            if at[low] + placed[low].size > at[high]:
                raise AssemblyError(f"{high}: at {at[high]:#x}, where {low} still is", section=high)
        return at
