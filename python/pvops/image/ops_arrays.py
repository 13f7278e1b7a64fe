"""The arrays of ops in an image, and what their slots hold as built."""

from __future__ import annotations

from typing import NamedTuple


class SlotContent(NamedTuple):
    """What a slot of the image's own ``pv_ops`` holds: an address (0: NULL) and the function there, if named."""

    address: int
    symbol: str | None


class OpsArray(NamedTuple):
    """One array of ops in an image: ``pv_ops``, and since 7.0 ``pv_ops_lock`` beside it; in 2.6 each structure.

    Attributes:
        symbol: the variable.
        structure: its type.
        address: where it lies.
        first: the number of its first op.
    """

    symbol: str
    structure: str
    address: int
    first: int
