"""drgn's and volatility3's own readers are memory: the real packages, on a kernel that slid."""

from __future__ import annotations

from typing import Any

import pytest

import pvops
from image.memory.slid import LARGE, SLIDE, TABLES, TEXT, Slid


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
    context.add_layer(physical.BufferDataLayer(context, "memory", "memory", slid.physical()))
    context.config["kernel.memory_layer"] = "memory"
    context.config["kernel.page_map_offset"] = TABLES
    layer = intel.Intel32e(context, "kernel", "kernel")
    context.add_layer(layer)
    found_as_it_slid(slid, pvops.memory.open(layer.read))
    below = context.layers["memory"]
    memory = pvops.memory.open(below.read, physical=[(0, below.maximum_address + 1)])
    found_as_it_slid(slid, memory)
    assert memory.find(slid.kernel).physical == LARGE + (TEXT & LARGE - 1)


def test_physical_memory_has_holes_and_a_kernel_in_none_of_them(slid: Slid) -> None:
    held = slid.physical()

    def read(address: int, size: int) -> bytes:
        if size > 4096 or address % (1 << 20) >= 0xFF000:
            raise ValueError("the bus")
        return held[address : address + size]

    found_as_it_slid(slid, pvops.memory.open(read, physical=[(LARGE, len(held) - LARGE), (1 << 40, 1 << 20)]))
    with pytest.raises(pvops.errors.DumpError, match="holds nothing but zeros"):
        pvops.memory.open(read, physical=[(0, LARGE)]).find(slid.kernel)
    # An end behind the last address is cut off.
    found_as_it_slid(slid, pvops.memory.open(read, physical=[(LARGE, len(held) - LARGE), ((1 << 64) - 4096, 1 << 63)]))
