"""A sample kernel that slid, in virtual memory: what readers are tried on."""

from __future__ import annotations

import struct

import pvops
from pvops import sample

TEXT = 0xFFFF_FFFF_8100_0000
SLIDE = 0x1240_0000


class Slid:
    """The kernel, and its memory.

    Attributes:
        kernel: opened, with the list of its relocations behind it.
        text: ``.text`` as linked, which holds no absolute address.
        pieces: address in memory and bytes of each section in memory.
    """

    def __init__(self) -> None:
        built = sample.build()
        plain = pvops.open(built.elf)
        sections = [(name, address, size) for name, address, size, _ in plain.image.sections() if address]
        data, size = next((address, size) for name, address, size in sections if name == ".data")
        words = range(data, data + size, 8)
        fields = [at for at in words if (plain.read_word(at) or 0) >= TEXT]
        lists = [0, *(at & 0xFFFF_FFFF for at in fields), 0]
        self.kernel = pvops.open(built.elf + struct.pack(f"<{len(lists)}I", *lists))
        self.pieces: list[tuple[int, bytes]] = []
        for name, address, size in sections:
            held = bytearray(plain.image.read(address, size) or b"")
            if name == ".data":
                for at in fields:
                    (word,) = struct.unpack_from("<Q", held, at - data)
                    struct.pack_into("<Q", held, at - data, word + SLIDE)
            self.pieces.append((address + SLIDE, bytes(held)))
        self.text = self.pieces[0][1]

    def read(self, address: int, size: int) -> bytes:
        """Virtual memory: the bytes of one section, or `LookupError`."""
        for start, held in self.pieces:
            if start <= address and address + size <= start + len(held):
                return held[address - start : address - start + size]
        raise LookupError(f"{address:#x} is not there")
