"""Bytes of whoever calls, as the core takes them."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing_extensions import Buffer


def contiguous(source: Buffer, wanted: str) -> memoryview:
    """The bytes of an object, one behind the other; copied only where they are not, as every second element of an
    array.

    Raises:
        TypeError: it has none; what is wanted instead, in words, is said.
    """
    try:
        held = memoryview(source)
    except TypeError as error:
        hint = ": give its path, or what its read() returns" if hasattr(source, "read") else ""
        raise TypeError(f"{wanted} is wanted, not {type(source).__name__}{hint}") from error
    if held.format == "B" and held.ndim == 1 and held.c_contiguous:
        return held
    try:
        return held.cast("B")
    except (TypeError, ValueError):  # not contiguous, of no simple format, or empty
        return memoryview(held.tobytes())
