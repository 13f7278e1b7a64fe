"""Segments: descriptors, selectors, and the table that the machine is started with."""

from __future__ import annotations

#: Selectors of the flat descriptors of ring 0; those of ring N lie 0x20 N further.
KERNEL_CS, KERNEL_DS = 0x10, 0x18


def descriptor(base: int, limit: int, access: int, flags: int = 0xC) -> bytes:
    """A segment descriptor, 8 bytes."""
    import struct

    return struct.pack(
        "<HHBBBB", limit & 0xFFFF, base & 0xFFFF, base >> 16 & 0xFF, access, flags << 4 | limit >> 16 & 15, base >> 24
    )


def selector(ring: int, data: bool = False) -> int:
    """The flat code (or data) selector of a ring."""
    return (KERNEL_DS if data else KERNEL_CS) + 0x20 * ring | ring


def flat_gdt() -> bytes:
    """The descriptor table that the machine is started with: flat code and data for each ring."""
    out = bytes(KERNEL_CS)
    for ring in range(4):
        out += descriptor(0, 0xFFFFF, 0x9B | ring << 5) + descriptor(0, 0xFFFFF, 0x93 | ring << 5) + bytes(16)
    return out
