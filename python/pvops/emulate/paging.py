"""The guest's page tables, walked as the CPU would: two levels, three with PAE, four on x86-64.

Kernel memory is mapped at one distance: a physical address is the linear one less that.
"""

from __future__ import annotations

from collections.abc import Iterator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.emulate.cpu import Cpu

PAGE_OFFSET = 0xC0000000
#: Where x86-64 has its image mapped (``__START_KERNEL_map``).
START_KERNEL = 0xFFFFFFFF80000000

PRESENT, ACCESSED = 1, 0x20
_FRAME = 0xFFFFFFFFFF000


class PageTables:
    """The tables in a guest's memory.

    Args:
        cpu: whose memory.
        pae: entries of 8 bytes, on three levels.
        wide: those of x86-64, on four.
    """

    def __init__(self, cpu: Cpu, pae: bool, *, wide: bool = False) -> None:
        self.cpu = cpu
        self.pae = pae
        self.size = 8 if pae or wide else 4
        self.offset = START_KERNEL if wide else PAGE_OFFSET
        each = 512 if self.size == 8 else 1024
        #: Of each level above the last: the lowest bit of its index, and how many entries it has.
        self._levels = ((39, 512), (30, 512), (21, 512)) if wide else ((30, 4), (21, 512)) if pae else ((22, each),)
        self._each = each
        # The four top entries of PAE lie at 32 bytes.
        self._top = ~31 if pae else ~0xFFF

    def lookup(self, cr3: int, address: int) -> int:
        """The entry for a linear address, 0 where a level above it is absent."""
        at = self.place(cr3, address)
        return 0 if at is None else self.entry(at)

    def place(self, cr3: int, address: int) -> int | None:
        """The physical address of the entry for a linear one; None where a level above it is absent."""
        table = cr3 & self._top
        for shift, count in self._levels:
            entry = self.entry(table + (address >> shift & count - 1) * self.size)
            if not entry & PRESENT:
                return None
            table = entry & _FRAME
        return table + (address >> 12 & self._each - 1) * self.size

    def entry(self, physical: int) -> int:
        """The entry at a physical address; 0 where there is no memory."""
        from pvops.errors import RunError

        try:
            return int.from_bytes(self.cpu.read(physical + self.offset, self.size), "little")
        except RunError:
            return 0

    def set_entry(self, physical: int, value: int) -> None:
        """Writes an entry."""
        self.cpu.write(physical + self.offset, value.to_bytes(self.size, "little"))

    def mapped(self, cr3: int) -> Iterator[tuple[int, int]]:
        """(linear address, entry) of every entry that is not zero."""
        tables = [(0, cr3 & self._top)]
        for shift, count in self._levels:
            tables = [found for top, table in tables for found in self._present(table, count, shift, top)]
        for top, table in tables:
            raw = self.cpu.read(table + self.offset, 0x1000)
            for i in range(0, 0x1000, self.size):
                entry = int.from_bytes(raw[i : i + self.size], "little")
                if entry:
                    yield top + (i // self.size << 12), entry

    def _present(self, table: int, count: int, shift: int, top: int) -> Iterator[tuple[int, int]]:
        raw = self.cpu.read(table + self.offset, count * self.size)
        for i in range(count):
            entry = int.from_bytes(raw[i * self.size : (i + 1) * self.size], "little")
            if entry & PRESENT:
                yield top + (i << shift), entry & _FRAME
