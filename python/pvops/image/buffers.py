"""Bytes of whoever calls, as the core takes them."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing_extensions import Buffer


def contiguous(source: Buffer) -> memoryview:
    """The bytes of an object, one behind the other; copied only where they are not, as every second element of an
    array."""
    held = memoryview(source)
    if held.format == "B" and held.ndim == 1 and held.c_contiguous:
        return held
    try:
        return held.cast("B")
    except (TypeError, ValueError):  # not contiguous, of no simple format, or empty
        return memoryview(held.tobytes())
