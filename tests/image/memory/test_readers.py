"""drgn's and volatility3's own readers are memory: the real packages, on a kernel that slid."""

from __future__ import annotations

import struct
from typing import Any

import pytest

import pvops
from image.memory.slid import SLIDE, Slid

_PAGE = 4096
_LARGE = 2 << 20


@pytest.fixture(scope="module")
def slid() -> Slid:
    return Slid()


def found_as_it_slid(slid: Slid, memory: pvops.memory.Memory) -> None:
    """The kernel is found through this reader, and its text is what it was linked as."""
    found = memory.find(slid.kernel)
    assert found.slide == SLIDE
    held = found.section(".text")
    assert held.bytes == slid.text
    assert not held.unread


def test_drgn(slid: Slid) -> None:
    drgn: Any = pytest.importorskip("drgn")
    prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
    for start, held in slid.pieces:

        def read(address: int, count: int, offset: int, physical: bool, held: bytes = held) -> bytes:
            return held[offset : offset + count]

        prog.add_memory_segment(start, len(held), read)
    found_as_it_slid(slid, pvops.memory.open(prog.read))


def test_volatility3(slid: Slid) -> None:
    contexts: Any = pytest.importorskip("volatility3.framework.contexts")
    intel: Any = pytest.importorskip("volatility3.framework.layers.intel")
    physical: Any = pytest.importorskip("volatility3.framework.layers.physical")

    context = contexts.Context()
    context.add_layer(physical.BufferDataLayer(context, "memory", "memory", machine(slid)))
    context.config["kernel.memory_layer"] = "memory"
    context.config["kernel.page_map_offset"] = _PAGE
    layer = intel.Intel32e(context, "kernel", "kernel")
    context.add_layer(layer)
    found_as_it_slid(slid, pvops.memory.open(layer.read))


def machine(slid: Slid) -> bytes:
    """Physical memory with the kernel in it, and page tables of four levels from the second page on."""
    first = min(start for start, _ in slid.pieces) & -_LARGE
    pages = -(-max(start + len(held) for start, held in slid.pieces) // _LARGE) - first // _LARGE
    memory = bytearray((1 + pages) * _LARGE)
    for start, held in slid.pieces:
        at = _LARGE + start - first
        memory[at : at + len(held)] = held
    present, large = 3, 0x80
    tables = [_PAGE * level for level in (1, 2, 3)]
    struct.pack_into("<Q", memory, tables[0] + 8 * (first >> 39 & 511), tables[1] | present)
    struct.pack_into("<Q", memory, tables[1] + 8 * (first >> 30 & 511), tables[2] | present)
    for page in range(pages):
        index = (first >> 21 & 511) + page
        assert index < 512
        struct.pack_into("<Q", memory, tables[2] + 8 * index, _LARGE * (1 + page) | large | present)
    return bytes(memory)
