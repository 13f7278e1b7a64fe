"""The one writer of ELF files: an executable with sections, program headers and a symbol table (ET_EXEC, x86)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from pvops.tuples import NamedTuple

WRITE, ALLOC, EXECUTE = 1, 2, 4
PAGE = 0x1000

_SYMTAB, _STRTAB, _PROGBITS = 2, 3, 1


class ElfSection(NamedTuple):
    """A section; with `ALLOC` it is loaded, and has a program header of its own."""

    name: str
    address: int
    data: bytes
    flags: int
    type: int = _PROGBITS
    link: int = 0
    info: int = 0
    align: int = 16
    entry: int = 0


class ElfSymbol(NamedTuple):
    """A global symbol.

    Attributes:
        section: index among the loaded sections, from 0.
        function: a function, or an object.
        size: in bytes; 0 if not known.
    """

    name: str
    address: int
    section: int
    function: bool
    size: int = 0


def write(bits: int, loaded: Sequence[ElfSection], symbols: Iterable[ElfSymbol], entry: int) -> bytes:
    """The bytes of an ELF file.

    Args:
        bits: 64 for EM_X86_64, 32 for EM_386.
        loaded: sections in the order of the file, all with `ALLOC`.
        symbols: sorted by address here.
        entry: where it starts.
    """
    entries, strings = _symbol_table(bits, symbols)
    size = 24 if bits == 64 else 16
    sections = [
        *loaded,
        # Linked to .strtab, which follows; all symbols but the first are global.
        ElfSection(".symtab", 0, entries, 0, type=_SYMTAB, link=len(loaded) + 2, info=1, align=8, entry=size),
        ElfSection(".strtab", 0, strings, 0, type=_STRTAB, align=1),
    ]
    names = b"\0" + b"".join(s.name.encode() + b"\0" for s in sections) + b".shstrtab\0"
    sections.append(ElfSection(".shstrtab", 0, names, 0, type=_STRTAB, align=1))
    return _file(bits, sections, len(loaded), names, entry)


def physical(address: int) -> int:
    """Where a kernel address lies in memory, as kernels are linked: the mapping's base taken away."""
    return address & 0x0FFF_FFFF


def _symbol_table(bits: int, symbols: Iterable[ElfSymbol]) -> tuple[bytes, bytes]:
    strings = bytearray(1)
    entries = bytearray(24 if bits == 64 else 16)  # the first symbol is nothing
    for symbol in sorted(symbols, key=lambda s: s.address):
        kind = 0x10 | (2 if symbol.function else 1)  # STB_GLOBAL; STT_FUNC, STT_OBJECT
        home = symbol.section + 1
        if bits == 64:
            entries += struct.pack("<IBBHQQ", len(strings), kind, 0, home, symbol.address, symbol.size)
        else:
            entries += struct.pack("<IIIBBH", len(strings), symbol.address, symbol.size, kind, 0, home)
        strings += symbol.name.encode() + b"\0"
    return bytes(entries), bytes(strings)


def _file(bits: int, sections: Sequence[ElfSection], loaded: int, names: bytes, entry: int) -> bytes:
    header_size, program_size, section_size = (64, 56, 64) if bits == 64 else (52, 32, 40)
    out = bytearray(header_size + program_size * loaded)
    offsets = []
    for section in sections:
        # A loaded section's offset in the file is congruent to its address, page by page.
        out += bytes((section.address - len(out)) % PAGE if section.flags & ALLOC else -len(out) % section.align)
        offsets.append(len(out))
        out += section.data
    out += bytes(-len(out) % 8)
    table = len(out)
    out += bytes(section_size)
    for section, offset in zip(sections, offsets, strict=True):
        name = names.index(b"\0" + section.name.encode() + b"\0") + 1
        fields = (name, section.type, section.flags, section.address, offset, len(section.data))
        tail = (section.link, section.info, section.align, section.entry)
        out += struct.pack("<IIQQQQIIQQ" if bits == 64 else "<10I", *fields, *tail)
    programs = b"".join(_program(bits, s, offset) for s, offset in zip(sections[:loaded], offsets, strict=False))
    out[: header_size + len(programs)] = _header(bits, table, loaded, len(sections) + 1, entry) + programs
    return bytes(out)


def _program(bits: int, section: ElfSection, offset: int) -> bytes:
    flags = 4 | (2 if section.flags & WRITE else 0) | (1 if section.flags & EXECUTE else 0)
    size = len(section.data)
    place = physical(section.address)
    if bits == 64:
        return struct.pack("<IIQQQQQQ", 1, flags, offset, section.address, place, size, size, PAGE)
    return struct.pack("<8I", 1, offset, section.address, place, size, size, flags, PAGE)


def _header(bits: int, table: int, programs: int, sections: int, entry: int) -> bytes:
    wide = bits == 64
    identity = b"\x7fELF" + bytes([2 if wide else 1, 1, 1]) + bytes(9)
    header_size, program_size, section_size = (64, 56, 64) if wide else (52, 32, 40)
    kind = (2, 62 if wide else 3, 1)  # ET_EXEC for EM_X86_64 or EM_386
    sizes = (0, header_size, program_size, programs, section_size, sections, sections - 1)
    return identity + struct.pack("<HHIQQQI6H" if wide else "<HHIIIII6H", *kind, entry, header_size, table, *sizes)
