"""What init code may put into slots, in images that name nothing."""

from __future__ import annotations

import struct

from image import small
from pvops.assembler.elf import ALLOC, WRITE, ElfSection
from pvops.image import stores

SLOT = small.DATA + 0x20


def store(at: int, slot: int, function: int) -> bytes:
    """``movq $function, slot(%rip)`` at an offset of the text."""
    return b"\x48\xc7\x05" + struct.pack("<iI", slot - (small.TEXT + at + 11), function & 0xFFFF_FFFF)


def test_what_code_stores_into_a_slot_is_found() -> None:
    first, second = small.TEXT + 0x80, small.TEXT + 0x90
    text = store(0, SLOT, first) + b"\x90" + store(12, SLOT, second) + store(23, SLOT + 64, first)
    kernel = small.kernel(text + b"\xcc" * 0xA0)
    assert stores.stored(kernel, {SLOT, SLOT + 8}) == {SLOT: {first, second}}


def test_addresses_of_code_in_data_that_is_freed_are_found() -> None:
    words = struct.pack("<4Q", 0, small.TEXT + 0x10, small.DATA, small.TEXT + 0x20)
    freed = ElfSection(".init.data", small.DATA + 0x1000, words, ALLOC | WRITE)
    kernel = small.kernel(b"\xcc" * 0x40, more=[freed], data=struct.pack("<Q", small.TEXT + 0x30))
    assert stores.tabled(kernel) == {small.TEXT + 0x10, small.TEXT + 0x20}
