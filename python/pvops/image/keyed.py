"""Where static keys and static calls are used: the rows of ``__jump_table`` and of the static call sites.

Both stand in .rodata between symbols of their own (include/asm-generic/vmlinux.lds.h). An i386 kernel that names no
data has them too, but nothing here tells where: it gives none.

* ``struct jump_entry``: ``s32 code; s32 target; long key``, each relative to itself; bit 0 of the key is the branch
  that an enabled key does not take, bit 1 marks an initial section (include/linux/jump_label.h).
* ``struct static_call_site``: ``s32 addr; s32 key``; bit 0 of the key marks a tail call, bit 1 an initial section
  (include/linux/static_call_types.h).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pvops.image.view import KernelView

_LOW = 3


class Use(NamedTuple):
    """One site of a static key or a static call.

    Attributes:
        address: of the site.
        key: address of the key.
        flag: bit 0 of the row: the branch of a jump label, the tail call of a static call.
    """

    address: int
    key: int
    flag: bool


def jump_labels(kernel: KernelView) -> list[Use]:
    """Every jump label of a kernel; none where no symbol says where they are."""
    return _rows(kernel, "__start___jump_table", "__stop___jump_table", "<iiq" if kernel.bits == 64 else "<iii", 8)


def static_calls(kernel: KernelView) -> list[Use]:
    """Every site of a static call that is patched in place."""
    return _rows(kernel, "__start_static_call_sites", "__stop_static_call_sites", "<ii", 4)


def _rows(kernel: KernelView, start: str, stop: str, layout: str, key_at: int) -> list[Use]:
    low, high = kernel.address_of(start), kernel.address_of(stop)
    raw = kernel.image.read(low, high - low) if low is not None and high is not None and high > low else None
    if raw is None or low is None:
        return []
    mask, size = (1 << kernel.bits) - 1, struct.calcsize(layout)
    found = []
    for i, fields in enumerate(struct.iter_unpack(layout, raw[: len(raw) - len(raw) % size])):
        here = low + i * size
        key = fields[-1]
        found.append(Use((here + fields[0]) & mask, (here + key_at + (key & ~_LOW)) & mask, bool(key & 1)))
    return found


def names_data(kernel: KernelView) -> bool:
    """Whether the image has symbols of data (CONFIG_KALLSYMS_ALL)."""
    return kernel.address_of("__start___jump_table") is not None


def name_of(kernel: KernelView, address: int) -> tuple[str, int] | None:
    """The symbol that an address of data lies in, and the offset into it."""
    return kernel.image.symbol_at(address)
