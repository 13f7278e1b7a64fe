"""The rows of ``.altinstructions``, as far as the feature words need them: where, what, and on which feature.

Layouts (arch/x86/include/asm/alternative.h ``struct alt_instr``), told apart by holding each against every row:

* 12 bytes: ``s32 instr; s32 repl; u16 cpuid; u8 instrlen; u8 replacementlen``; bit 15 of ``cpuid`` inverts (6.1);
* 13 bytes: the same with ``u8 padlen`` at the end and no inverting (5.10.0);
* 14 bytes: ``u16 cpuid; u16 flags`` in the middle: 1 inverts, 2 is a direct call (6.3 and later);
* 12 bytes, 24 on x86-64: two pointers, ``u8 cpuid, instrlen, replacementlen`` and padding (2.6), which the core knows.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from pvops.errors import TableError

if TYPE_CHECKING:
    from pvops.image.view import KernelView

NOT = 1
DIRECT_CALL = 2

_LAYOUTS = {12: "<iiHBB", 13: "<iiHBBB", 14: "<iiHHBB"}
_LAST_WORD = 32


class Row(NamedTuple):
    """One row.

    Attributes:
        address: of the site.
        replacement: address of the replacement.
        number: the feature's number.
        flags: `NOT`, `DIRECT_CALL`.
        length: bytes of the site.
        code: the bytes of the replacement.
    """

    address: int
    replacement: int
    number: int
    flags: int
    length: int
    code: bytes


def rows(kernel: KernelView) -> list[Row]:
    """All rows of a kernel, in order; none where it has no such section.

    Raises:
        TableError: no layout fits, or more than one.
    """
    sections = {name: (address, size) for name, address, size, _ in kernel.image.sections()}
    if ".altinstructions" not in sections:
        return []
    address, size = sections[".altinstructions"]
    raw = kernel.image.read(address, size)
    if raw is None:
        raise TableError(
            f"{kernel.name}: .altinstructions holds no bytes", file=kernel.name, section=".altinstructions"
        )
    code = [(a, a + n) for _, a, n, executable in kernel.image.sections() if executable]
    place = sections.get(".altinstr_replacement", (0, 0))
    if "pointers" in (kernel.tables.alternatives_layout or ""):
        return [Row(*fields, kernel.image.read(fields[1], length) or b"") for fields, length in _of_2_6(kernel, raw)]
    fitting = [s for s in _LAYOUTS if all(_fits(f, code, place) for f in _fields(kernel, raw, address, s))]
    fitting = [s for s in fitting if size % s == 0]
    if len(fitting) != 1:
        what = f"{len(fitting)} layouts fit" if fitting else "no known layout fits"
        raise TableError(f"{kernel.name}: .altinstructions: {what}", file=kernel.name, section=".altinstructions")
    start, length = place
    replacements = kernel.image.read(start, length) or b""
    return [
        Row(site, repl, number, flags, site_len, replacements[repl - start : repl - start + repl_len])
        for site, repl, number, flags, site_len, repl_len in _fields(kernel, raw, address, fitting[0])
    ]


def _of_2_6(kernel: KernelView, raw: bytes) -> Iterator[tuple[tuple[int, int, int, int, int], int]]:
    """The fields of a `Row` but its code, and the length of that. Nothing follows the last row: it has no padding."""
    layout = struct.Struct("<IIBBBx" if kernel.bits == 32 else "<QQBBB5x")
    for site, repl, number, site_len, repl_len in layout.iter_unpack(raw + bytes(-len(raw) % layout.size)):
        yield (site, repl, number, 0, site_len), repl_len


_Fields = tuple[int, int, int, int, int, int]


def _fields(kernel: KernelView, raw: bytes, address: int, stride: int) -> Iterator[_Fields]:
    mask = (1 << kernel.bits) - 1
    whole = len(raw) - len(raw) % stride
    for i, found in enumerate(struct.iter_unpack(_LAYOUTS[stride], raw[:whole])):
        here = address + i * stride
        site, repl = (here + found[0]) & mask, (here + 4 + found[1]) & mask
        if stride == 14:
            yield site, repl, found[2], found[3], found[4], found[5]
        else:
            yield site, repl, found[2] & 0x7FFF, found[2] >> 15, found[3], found[4]


def _fits(fields: _Fields, code: list[tuple[int, int]], place: tuple[int, int]) -> bool:
    site, repl, number, flags, site_len, repl_len = fields
    return (
        any(low <= site and site + site_len <= high for low, high in code)
        and (not repl_len or place[0] <= repl <= repl + repl_len <= place[0] + place[1])
        and repl_len <= site_len
        and number < _LAST_WORD * 32
        and flags <= NOT | DIRECT_CALL
    )
