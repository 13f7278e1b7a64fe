"""The text that writes leave, and where two boots' writes differ."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pvops.image.kernel_image import KernelImage
    from pvops.plan.writes import RawWrite


class Text:
    """The sections of an image, to write to."""

    def __init__(self, kernel: KernelImage) -> None:
        sections = sorted(
            (address, size, name) for name, address, size, _ in kernel.image.sections() if address and size
        )
        self._kernel = kernel
        self._starts = [address for address, _, _ in sections]
        self._sections = sections
        self._bytes: dict[int, bytearray] = {}

    def _at(self, address: int) -> int:
        return bisect_right(self._starts, address) - 1

    def section(self, address: int) -> str:
        """The name of the section that an address lies in."""
        return self._sections[self._at(address)][2]

    def _held(self, index: int) -> bytearray:
        if index not in self._bytes:
            address, size, _ = self._sections[index]
            self._bytes[index] = bytearray(self._kernel.image.read(address, size) or bytes(size))
        return self._bytes[index]

    def read(self, low: int, high: int) -> bytes:
        """The bytes from one address up to another, of one section."""
        index = self._at(low)
        start = self._starts[index]
        return bytes(self._held(index)[low - start : high - start])

    def replay(self, writes: Iterable[RawWrite]) -> None:
        """Writes what a plan writes, in its order."""
        start, held = 0, bytearray()
        for address, _, _, code, *_ in writes:
            if code:
                if not 0 <= address - start < len(held):
                    index = self._at(address)
                    start, held = self._starts[index], self._held(index)
                held[address - start : address - start + len(code)] = code


def places_of(raws: tuple[Sequence[RawWrite], Sequence[RawWrite]]) -> list[tuple[int, int]]:
    """Where the boots write otherwise, as ranges of addresses: writes that overlap are one place."""
    a, b = ({(w[0], w[3]) for w in raw if w[3]} for raw in raws)
    found = _merged((address, address + len(code)) for address, code in a ^ b)
    # What both write alike belongs to the place that it overlaps.
    starts = [low for low, _ in found]
    for address, code in a & b:
        index = bisect_right(starts, address + len(code) - 1) - 1
        if index >= 0 and address < found[index][1]:
            found.append((address, address + len(code)))
    return _merged(found)


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for low, high in sorted(spans):
        if found and low < found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return found
