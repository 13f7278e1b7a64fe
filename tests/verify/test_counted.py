"""Counted calls under an image that names no function are told from changed ones, and not judged."""

from __future__ import annotations

import struct

import pytest

import pvops
from image import small
from pvops.assembler.elf import ALLOC, ElfSection
from pvops.errors import OpsError

SITES, CALLS, PAD = small.TEXT + 0x50_0000, 12, 16
#: A function behind its padding, and what calls it a dozen times.
FUNCTION = b"\x90" * PAD + b"\x31\xc0\xc3".ljust(16, b"\xcc")


def text(before: list[int]) -> bytes:
    """The text with calls that lead so far before the function."""
    code = FUNCTION
    for back in before:
        code += b"\xe8" + struct.pack("<i", PAD - back - (len(code) + 5))
    return code + b"\xc3"


def image(*, stripped: bool = True) -> bytes:
    rows = b"".join(struct.pack("<i", small.TEXT + len(FUNCTION) + 5 * n - (SITES + 4 * n)) for n in range(CALLS))
    more = [ElfSection(".call_sites", SITES, rows, ALLOC)]
    return small.image(text([0] * CALLS), release="7.2.1-small", more=more, stripped=stripped)


def test_it_is_said() -> None:
    kernel = pvops.open(image())
    assert kernel.verify(text([0] * CALLS))
    with pytest.raises(OpsError, match="calls are counted in this memory") as caught:
        kernel.verify(text([9] * CALLS))
    assert "which it passes over is not known, as the image names no function" in str(caught.value)
    with pytest.raises(OpsError, match="counted"):
        kernel.verify(text([9] * (CALLS - 2) + [0, 0]))


@pytest.mark.parametrize("before", [[9] * 3 + [0] * 9, list(range(1, CALLS + 1))], ids=["a few", "each elsewhere"])
def test_changed_calls_are_unexplained(before: list[int]) -> None:
    assert pvops.open(image()).verify(text(before)).unexplained


def test_where_functions_have_names_it_is_judged() -> None:
    assert pvops.open(image(stripped=False)).verify(text([9] * CALLS)).unexplained
