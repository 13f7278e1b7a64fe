"""A dump of a kernel with one thing in it changed: what the kernel's own data are for."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pvops
from pvops.image.memory import Location

#: An address that is no kernel's function: where modules lie.
ELSEWHERE = struct.pack("<Q", 0xFFFF_FFFF_C012_3450)


class Dump:
    """An ELF core of QEMU's, changed in place and changed back."""

    def __init__(self, core: Path, found: Location) -> None:
        self.core, self.found = core, found
        with core.open("rb") as file:
            header = file.read(4096)
        (table,) = struct.unpack_from("<Q", header, 32)
        (count,) = struct.unpack_from("<H", header, 56)
        rows = [struct.unpack_from("<IIQQQQ", header, table + 56 * i) for i in range(count)]
        self.segments: list[tuple[int, int, int]] = [(row[4], row[5], row[2]) for row in rows if row[0] == 1]
        self.text = found.section(".text").address

    def offset(self, address: int) -> int:
        """Where in the file the byte linked at an address is."""
        assert self.found.physical is not None
        physical = address - self.text + self.found.physical
        segments = (row for row in self.segments if row[0] <= physical < row[0] + row[1])
        start, _, offset = next(segments)
        return offset + physical - start

    def read(self, address: int, size: int) -> bytes:
        """Bytes as they stand."""
        with self.core.open("rb") as file:
            file.seek(self.offset(address))
            return file.read(size)

    @contextmanager
    def changed(self, address: int, new: bytes) -> Iterator[None]:
        """Changes bytes for as long as the block runs."""
        at = self.offset(address)
        with self.core.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
            old = memory[at : at + len(new)]
            memory[at : at + len(new)] = new
            memory.flush()
            try:
                yield
            finally:
                memory[at : at + len(new)] = old


def changes(kernel: pvops.Kernel, report: pvops.Report, dump: Dump) -> Iterator[tuple[str, int, bytes]]:
    """What to change: a kind of data, where, and the new bytes."""
    for vote in report.votes:
        address = kernel.address_of(vote.name)
        if vote.about == "key" and vote.votes == 1 and address is not None:
            (enabled,) = struct.unpack("<i", dump.read(address, 4))
            yield "static_key", address, struct.pack("<i", not enabled)
            break
    for vote in report.votes:
        address = kernel.address_of(vote.name)
        if vote.about == "static_call" and vote.votes and address is not None:
            yield "static_call", address, ELSEWHERE
            break
    if kernel.bits == 64:
        for name in ("pv_mmu_ops.read_cr3", "pv_cpu_ops.write_msr", "pv_mmu_ops.flush_tlb_user"):
            if name in kernel.ops.names:
                yield "pv_ops", kernel.ops.slot(kernel.ops.names.index(name)), ELSEWHERE
        table = kernel.address_of("sys_call_table")
        if table is not None and report.data.rodata is not None:
            yield "rodata", table + 8 * 59, ELSEWHERE
        yield from code_without_a_section(kernel, dump)


def code_without_a_section(kernel: pvops.Kernel, dump: Dump) -> Iterator[tuple[str, int, bytes]]:
    """What runs and is in no section of code: a call in the vDSO, and what is behind ``.text`` on its last page."""
    vdso = kernel.address_of("vdso64_image") or kernel.address_of("vdso_image_64")
    data = None if vdso is None else kernel.image.read(vdso, 8)
    if data is not None:
        yield "rodata", int.from_bytes(data, "little") + 0x800, bytes(byte ^ 0x55 for byte in range(5))
    end = dump.text + len(dump.found.section(".text").bytes)
    if end % 4096:
        yield "rodata", end, b"\xe9\x00\x10\x00\x00"
