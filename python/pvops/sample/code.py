"""A section of code as it grows."""

from __future__ import annotations


class Code:
    """Functions, aligned and padded with int3 as the kernel's are."""

    def __init__(self, address: int) -> None:
        self.address = address
        self.bytes = bytearray()

    @property
    def here(self) -> int:
        """The address behind what is there."""
        return self.address + len(self.bytes)

    def align(self) -> int:
        """The address of the next function."""
        self.bytes += b"\xcc" * (-len(self.bytes) % 16)
        return self.here

    def put(self, code: bytes) -> int:
        """Adds some code; its address."""
        at = self.here
        self.bytes += code
        return at
