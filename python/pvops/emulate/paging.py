"""The guest's page tables, walked as the CPU would: two levels, or three with PAE.

Kernel memory is mapped at `PAGE_OFFSET`: a physical address is the linear one less that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pvops.emulate.cpu import Cpu

PAGE_OFFSET = 0xC0000000

PRESENT, ACCESSED = 1, 0x20
_FRAME = 0xFFFFF000


class PageTables:
    """The tables in a guest's memory.

    Args:
        cpu: whose memory.
        pae: entries of 8 bytes on three levels.
    """

    def __init__(self, cpu: Cpu, pae: bool) -> None:
        self.cpu = cpu
        self.pae = pae
        self.size = 8 if pae else 4
        self._shift = 21 if pae else 22

    def lookup(self, cr3: int, address: int) -> int:
        """The entry for a linear address, 0 where a level above it is absent."""
        at = self.place(cr3, address)
        return 0 if at is None else self.entry(at)

    def place(self, cr3: int, address: int) -> int | None:
        """The physical address of the entry for a linear one; None where a level above it is absent."""
        table = cr3 & (0xFFFFFFE0 if self.pae else _FRAME)
        for shift in (30, 21) if self.pae else (22,):
            index = address >> shift & (3 if shift == 30 else 0x1FF if self.pae else 0x3FF)
            entry = self.entry(table + index * self.size)
            if not entry & PRESENT:
                return None
            table = entry & _FRAME
        return table + self._index(address) * self.size

    def entry(self, physical: int) -> int:
        """The entry at a physical address; 0 where there is no memory."""
        from pvops.errors import RunError

        try:
            return int.from_bytes(self.cpu.read(physical + PAGE_OFFSET, self.size), "little")
        except RunError:
            return 0

    def set_entry(self, physical: int, value: int) -> None:
        """Writes an entry."""
        self.cpu.write(physical + PAGE_OFFSET, value.to_bytes(self.size, "little"))

    def mapped(self, cr3: int) -> Iterator[tuple[int, int]]:
        """(linear address, entry) of every entry that is not zero."""
        for top, table in self._tables(cr3):
            raw = self.cpu.read(table + PAGE_OFFSET, 0x1000)
            for i in range(0, 0x1000, self.size):
                entry = int.from_bytes(raw[i : i + self.size], "little")
                if entry:
                    yield top + (i // self.size << 12), entry

    def _tables(self, cr3: int) -> Iterator[tuple[int, int]]:
        """(first linear address, physical address) of every table of the last level."""
        if not self.pae:
            yield from self._present(cr3 & _FRAME, 1024, 22, 0)
            return
        for top, directory in self._present(cr3 & 0xFFFFFFE0, 4, 30, 0):
            yield from self._present(directory, 512, 21, top)

    def _present(self, table: int, count: int, shift: int, top: int) -> Iterator[tuple[int, int]]:
        raw = self.cpu.read(table + PAGE_OFFSET, count * self.size)
        for i in range(count):
            entry = int.from_bytes(raw[i * self.size : (i + 1) * self.size], "little")
            if entry & PRESENT:
                yield top + (i << shift), entry & _FRAME

    def _index(self, address: int) -> int:
        return address >> 12 & (0x1FF if self.pae else 0x3FF)
