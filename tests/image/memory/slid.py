"""A sample kernel that slid, in virtual memory: what readers are tried on."""

from __future__ import annotations

import struct

import pvops
from pvops import sample

TEXT = 0xFFFF_FFFF_8100_0000
SLIDE = 0x1240_0000
#: Where in physical memory the page tables begin, and the page that has the kernel.
TABLES = 4096
LARGE = 2 << 20


class Slid:
    """The kernel, and its memory; booted, where a backend is named; with sites of every pass, or of paravirt alone.

    Attributes:
        image: the kernel's file, with the list of its relocations behind it.
        kernel: the same, opened.
        text: ``.text`` as linked, or as patched; it holds no absolute address.
        pieces: address in memory and bytes of each section in memory.
    """

    def __init__(self, backend: str | None = None, *, tables: bool = False) -> None:
        built = sample.build(tables=tables)
        plain = pvops.open(built.elf)
        sections = [(name, address, size) for name, address, size, _ in plain.image.sections() if address]
        code = (".text", ".init.text", ".altinstr_replacement")
        held_in = [(address, address + size) for name, address, size in sections if name not in code]
        words = [at for start, end in held_in for at in range(start, end, 8)]
        fields = [at for at in words if (plain.read_word(at) or 0) >= TEXT]
        lists = [0, *(at & 0xFFFF_FFFF for at in fields), 0]
        self.image = built.elf + struct.pack(f"<{len(lists)}I", *lists)
        self.kernel = pvops.open(self.image)
        self.pieces: list[tuple[int, bytes]] = []
        for name, address, size in sections:
            held = bytearray(plain.image.read(address, size) or b"")
            for at in fields:
                if address <= at < address + size:
                    (word,) = struct.unpack_from("<Q", held, at - address)
                    struct.pack_into("<Q", held, at - address, word + SLIDE)
            if name == ".text" and backend is not None:
                held[:] = self.kernel.plan(backend).apply()
            self.pieces.append((address + SLIDE, bytes(held)))
        self.text = self.pieces[0][1]

    def read(self, address: int, size: int) -> bytes:
        """Virtual memory: the bytes of one section, or `LookupError`."""
        for start, held in self.pieces:
            if start <= address and address + size <= start + len(held):
                return held[address - start : address - start + size]
        raise LookupError(f"{address:#x} is not there")

    def offset(self, address: int) -> int:
        """Where in `physical` the byte linked at an address is."""
        first = min(start for start, _ in self.pieces) & -LARGE
        return LARGE + address + SLIDE - first

    def physical(self) -> bytes:
        """Physical memory with the kernel in it, and page tables of four levels from `TABLES` on."""
        first = min(start for start, _ in self.pieces) & -LARGE
        pages = -(-max(start + len(held) for start, held in self.pieces) // LARGE) - first // LARGE
        memory = bytearray((1 + pages) * LARGE)
        for start, held in self.pieces:
            at = LARGE + start - first
            memory[at : at + len(held)] = held
        present, large = 3, 0x80
        tables = [TABLES + 4096 * level for level in range(3)]
        struct.pack_into("<Q", memory, tables[0] + 8 * (first >> 39 & 511), tables[1] | present)
        struct.pack_into("<Q", memory, tables[1] + 8 * (first >> 30 & 511), tables[2] | present)
        for page in range(pages):
            index = (first >> 21 & 511) + page
            assert index < 512
            struct.pack_into("<Q", memory, tables[2] + 8 * index, LARGE * (1 + page) | large | present)
        return bytes(memory)
