"""The arrays of ops in an image, and what their slots hold as built."""

from __future__ import annotations


class SlotContent:
    """What a slot of the image's own ``pv_ops`` holds: an address (0: NULL) and the function there, if named."""

    __slots__ = ("address", "symbol")

    def __init__(self, address: int, symbol: str | None) -> None:
        self.address = address
        self.symbol = symbol


class OpsArray:
    """One array of ops in an image: ``pv_ops``, and since 7.0 ``pv_ops_lock`` beside it; in 2.6 each structure."""

    __slots__ = ("address", "first", "structure", "symbol")

    def __init__(self, symbol: str, structure: str, address: int, first: int) -> None:
        self.symbol = symbol
        self.structure = structure
        self.address = address
        self.first = first
