"""Small kernel images, built: text with sites, rows of ``.altinstructions``, arrays of feature names, static keys."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pvops
from pvops.assembler.elf import ALLOC, EXECUTE, WRITE, ElfSection, ElfSymbol, physical, write
from pvops.kernel import Kernel

TEXT, RODATA, DATA, ROWS, REPLACEMENTS = (0xFFFF_FFFF_8100_0000 + n * 0x10_0000 for n in range(5))


class Alternative(NamedTuple):
    """A row of 14 bytes: offset of its site in the text, length, number of the feature, flags, replacement."""

    at: int
    length: int
    number: int
    replacement: bytes
    flags: int = 0


def names(words: int, named: Mapping[int, str]) -> list[str | None]:
    """The entries of an array of names with so many words of 32."""
    return [named.get(n) for n in range(words * 32)]


#: What every kernel's arrays begin with, as far as they are known by it.
CAPS = {0: "fpu", 1: "vme", 13: "pge", 14: "mca", 15: "cmov", 16: "pat"}
BUGS = {0: "f00f", 1: "fdiv", 2: "coma"}
POWER = {0: "ts", 1: "fid", 2: "vid", 3: "ttp", 6: "100mhzsteps"}


class Strings:
    """A section of strings and of pointers to them; the linker merges a string with the end of a longer one."""

    def __init__(self, base: int) -> None:
        self.base = base
        self.data = bytearray(b"somebody_elses_fpu\0some_more_stuff\0")
        self.places: dict[str, int] = {}

    def string(self, text: str) -> int:
        """The address of a string."""
        at = self.data.find(text.encode() + b"\0")
        if at < 0:
            at = len(self.data)
            self.data += text.encode() + b"\0"
        return self.base + at

    def array(self, name: str, entries: Sequence[str | None]) -> None:
        """Lays down an array of pointers under a name."""
        pointers = [0 if text is None else self.string(text) for text in entries]
        self.data += bytes(-len(self.data) % 32)
        self.places[name] = self.base + len(self.data)
        self.data += struct.pack(f"<{len(pointers)}Q", *pointers)


def image(
    text: bytes,
    rows: Sequence[Alternative] = (),
    *,
    release: str = "6.12.0-small",
    arrays: Sequence[tuple[str, Sequence[str | None]]] = (),
    symbols: Mapping[str, int] | None = None,
    data: bytes = b"",
    named: bool = True,
    more: Sequence[ElfSection] = (),
    stripped: bool = False,
) -> bytes:
    """An image, as a file has it.

    Args:
        text: ``.text``.
        rows: of ``.altinstructions``.
        release: of its banner.
        arrays: (symbol, entries) in the order in which they are laid down; the symbol is listed if ``named``.
        symbols: name → address.
        data: ``.data``.
        named: whether the image lists its arrays.
        more: other sections.
        stripped: whether it has no symbol at all.
    """
    strings = Strings(RODATA)
    banner = strings.string(f"Linux version {release} (small@test) (made by a test) #1 SMP\n")
    for _, entries in arrays:
        for text_ in filter(None, entries):
            strings.string(text_)
    for name, entries in arrays:
        strings.array(name, entries)
    replacements = b"".join(row.replacement for row in rows)
    table, at = b"", REPLACEMENTS
    for index, row in enumerate(rows):
        here = ROWS + 14 * index
        table += struct.pack(
            "<iiHHBB", TEXT + row.at - here, at - here - 4, row.number, row.flags, row.length, len(row.replacement)
        )
        at += len(row.replacement)
    sections = [
        ElfSection(".text", TEXT, text, ALLOC | EXECUTE),
        ElfSection(".rodata", RODATA, bytes(strings.data), ALLOC),
        ElfSection(".data", DATA, data or bytes(64), ALLOC | WRITE),
        *more,
    ]
    if rows:
        sections += [
            ElfSection(".altinstructions", ROWS, table, ALLOC),
            ElfSection(".altinstr_replacement", REPLACEMENTS, replacements or b"\x90", ALLOC | EXECUTE),
        ]
    found = {"_text": TEXT, "_stext": TEXT, "linux_banner": banner, **(strings.places if named else {})}
    listed = []
    for name, address in {**found, **(symbols or {})}.items():
        home = next(i for i, s in enumerate(sections) if s.address <= address <= s.address + len(s.data))
        listed.append(ElfSymbol(name, address, home, home == 0))
    return write(64, sections, [] if stripped else listed, physical(TEXT))


def kernel(text: bytes, rows: Sequence[Alternative] = (), **parts: Any) -> Kernel:
    """Opens an image made here: see `image`."""
    return pvops.open(image(text, rows, **parts))
