"""The arrays of ops in an image, and what their slots hold as built.

Named tuples without `typing`, whose import takes longer than listing the sites of a table.
"""

from __future__ import annotations

from collections import namedtuple


class SlotContent(namedtuple("SlotContent", ("address", "symbol"))):
    """What a slot of the image's own ``pv_ops`` holds: an address (0: NULL) and the function there, if named."""

    __slots__ = ()
    address: int
    symbol: str | None


class OpsArray(namedtuple("OpsArray", ("symbol", "structure", "address", "first"))):
    """One array of ops in an image: ``pv_ops``, and since 7.0 ``pv_ops_lock`` beside it; in 2.6 each structure.

    Attributes:
        symbol: the variable.
        structure: its type.
        address: where it lies.
        first: the number of its first op.
    """

    __slots__ = ()
    symbol: str
    structure: str
    address: int
    first: int


def full_name(path: str) -> str:
    """``irq.save_fl``, as BTF has it, by the structure's name: ``pv_irq_ops.save_fl``."""
    struct, _, member = path.partition(".")
    return f"pv_{struct}_ops.{member}" if member else path
