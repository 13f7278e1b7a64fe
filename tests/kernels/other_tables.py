"""Which addresses of an image the other passes touch, read by code that shares nothing with the package.

A paravirt site that no later pass touches is one whose bytes lie in no row of these tables.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache

import pvops


class Section:
    """One section's address and bytes."""

    def __init__(self, kernel: pvops.Kernel, name: str) -> None:
        found = [(a, s) for n, a, s, _ in kernel.image.sections() if n == name]
        self.address, size = found[0] if found else (0, 0)
        self.bytes = kernel.image.read(self.address, size) or b"" if found else b""


def touched(kernel: pvops.Kernel) -> set[int]:
    """Every address that a row of another table covers."""
    out: set[int] = set()
    for address, length in (*_alternatives(kernel), *_self_relative(kernel)):
        out.update(range(address, address + length))
    return out


@cache
def lonely_sites(kernel: pvops.Kernel) -> list[tuple[int, int]]:
    """(address, length) of the paravirt sites in ``.text`` that no other table touches."""
    others = touched(kernel)
    return [
        (site.address, len(site.bytes))
        for site in kernel.sites.of_table("paravirt")
        if site.section == ".text" and others.isdisjoint(range(site.address, site.address + len(site.bytes)))
    ]


def _alternatives(kernel: pvops.Kernel) -> Iterator[tuple[int, int]]:
    """struct alt_instr of 12 bytes, in 5.10.262 and 6.1: s32 instr, s32 repl, u16 cpuid, u8 len, u8 repllen."""
    section = Section(kernel, ".altinstructions")
    assert len(section.bytes) % 12 == 0
    for at in range(0, len(section.bytes), 12):
        instr, _repl, _cpuid, length, _repllen = struct.unpack_from("<iiHBB", section.bytes, at)
        address = (section.address + at + instr) & ((1 << kernel.bits) - 1)
        yield address, length


def _self_relative(kernel: pvops.Kernel) -> Iterator[tuple[int, int]]:
    """Tables of s32 offsets from themselves. A retpoline or return site is a direct branch: five bytes, six with a
    prefix or a condition."""
    for name in (".retpoline_sites", ".return_sites", ".smp_locks"):
        section = Section(kernel, name)
        for at in range(0, len(section.bytes) - 3, 4):
            (offset,) = struct.unpack_from("<i", section.bytes, at)
            if not offset:
                continue
            address = (section.address + at + offset) & ((1 << kernel.bits) - 1)
            first = kernel.image.read(address, 1) or b"\0"
            yield address, 1 if name == ".smp_locks" else 6 if first in (b"\x0f", b"\x2e") else 5
