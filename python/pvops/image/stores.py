"""What init code may put into the slots of ops, where no function of an image has a name."""

from __future__ import annotations

import re
import struct
from collections.abc import Collection, Iterator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.image.view import KernelView

#: ``mov $FUNCTION, SLOT``: of 64 bits with the slot relative to the next instruction, of 32 with its address.
_STORES = {
    64: rb"(?=\x48\xc7\x05(....)(....))",
    32: rb"(?=\xc7\x05(....)(....))",
}
_LENGTH = 11


def stored(kernel: KernelView, slots: Collection[int]) -> dict[int, set[int]]:
    """Slot → the addresses that instructions of the image store there: ``pv_ops.lock.wait = kvm_wait``."""
    found: dict[int, set[int]] = {}
    mask = (1 << kernel.bits) - 1
    for _, low, size, executable in kernel.image.sections():
        code = kernel.image.read(low, size) or b"" if executable else b""
        for match in re.finditer(_STORES[kernel.bits], code, re.DOTALL):
            place, value = (int.from_bytes(match[n], "little", signed=kernel.bits == 64) for n in (1, 2))
            if kernel.bits == 64:
                place += low + match.start() + _LENGTH
            if place & mask in slots:
                found.setdefault(place & mask, set()).add(value & mask)
    return found


def tabled(kernel: KernelView) -> set[int]:
    """The addresses of code that data have which the kernel frees: Xen's tables are among them (``__initconst``)."""
    text = [(low, low + size) for name, low, size, _ in kernel.image.sections() if name == ".text"]
    words = (
        word
        for name, low, size, _ in kernel.image.sections()
        if name == ".init.data"
        for word in _words(kernel, low, size)
    )
    return {word for word in words if any(low <= word < high for low, high in text)}


def _words(kernel: KernelView, low: int, size: int) -> Iterator[int]:
    raw = kernel.image.read(low, size - size % kernel.word) or b""
    return (word for (word,) in struct.iter_unpack("<Q" if kernel.word == 8 else "<I", raw))
