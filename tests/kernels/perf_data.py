"""A `perf.data` file made by code: samples in a kernel, as perf.data-file-format.txt of the kernel has it."""

from __future__ import annotations

import struct
from collections.abc import Sequence

KERNEL = 1  # PERF_RECORD_MISC_KERNEL
MMAP, COMM, SAMPLE, BUILD_ID = 1, 3, 9, 67  # types of records
SAMPLED = 1 | 2 | 4  # PERF_SAMPLE_IP, _TID, _TIME
CPU_CLOCK = struct.pack("<IIQQQ", 1, 128, 0, 1_000_000, SAMPLED).ljust(128, b"\0")  # struct perf_event_attr


def record(kind: int, misc: int, body: bytes) -> bytes:
    """One record: `struct perf_event_header` and what follows it."""
    return struct.pack("<IHH", kind, misc, 8 + len(body)) + body


def name(text: str, size: int = 8) -> bytes:
    """A name with its zero, filled up to a multiple of a size."""
    held = text.encode() + b"\0"
    return held + b"\0" * (-len(held) % size)


def made(text: int, size: int, build_id: bytes, addresses: Sequence[int]) -> bytes:
    """A file with one sample of the CPU's clock at each address, in a kernel whose text is at `text`."""
    records = record(MMAP, KERNEL, struct.pack("<iIQQQ", -1, 0, text, size, text) + name("[kernel.kallsyms]_text"))
    records += record(COMM, 0, struct.pack("<II", 100, 100) + name("workload"))
    for at, address in enumerate(addresses):
        records += record(SAMPLE, KERNEL, struct.pack("<QIIQ", address, 100, 100, 1000 + at))
    build = struct.pack("<i", -1) + build_id.ljust(20, b"\0") + struct.pack("<B3x", len(build_id))
    build = record(BUILD_ID, KERNEL, build + name("[kernel.kallsyms]", 64))
    attributes = CPU_CLOCK + bytes(16)  # no ids
    begin = 104
    data = begin + len(attributes)
    feature = data + len(records)
    header = struct.pack("<QQ", begin, len(attributes))  # its own size, that of an attribute with its ids
    header += struct.pack("<6Q", begin, len(attributes), data, len(records), 0, 0)
    header += struct.pack("<4Q", 1 << 2, 0, 0, 0)  # HEADER_BUILD_ID
    return b"PERFILE2" + header + attributes + records + struct.pack("<QQ", feature + 16, len(build)) + build
