"""Memory that several CPUs share: one buffer, mapped into each of them."""

from __future__ import annotations

import ctypes
import mmap

from pvops.errors import RunError

PAGE = 0x1000


class Memory:
    """A range of addresses, and what it holds.

    Args:
        address: of its first byte, a multiple of a page.
        size: in bytes.
    """

    def __init__(self, address: int, size: int) -> None:
        self.address = address
        self.size = size + -size % PAGE
        self.buffer = mmap.mmap(-1, self.size)
        self.pointer = ctypes.addressof(ctypes.c_char.from_buffer(self.buffer))

    def read(self, address: int, size: int) -> bytes:
        """Memory; `RunError` outside of the range."""
        at = self._at(address, size)
        return self.buffer[at : at + size]

    def write(self, address: int, data: bytes) -> None:
        """Writes memory; `RunError` outside of the range."""
        at = self._at(address, len(data))
        self.buffer[at : at + len(data)] = data

    def number(self, address: int, size: int) -> int:
        """Memory as a number, the lowest byte first."""
        at = self._at(address, size)
        return int.from_bytes(self.buffer[at : at + size], "little")

    def set_number(self, address: int, size: int, value: int) -> None:
        """Writes a number."""
        self.write(address, (value & (1 << 8 * size) - 1).to_bytes(size, "little"))

    def _at(self, address: int, size: int) -> int:
        at = address - self.address
        if at < 0 or at + size > self.size:
            raise RunError(f"{address:#x}: no memory there", reason="no memory there", address=address)
        return at
