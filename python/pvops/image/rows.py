"""The rows of ``.altinstructions``, as far as the feature numbers need them: where, what, and on which feature."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pvops.image.view import KernelView


class Row(NamedTuple):
    """One row.

    Attributes:
        address: of the site.
        length: of the site in bytes.
        number: of the feature or bug.
        inverted: it asks for the feature's absence.
        direct_call: it is a direct call of what the site's indirect call would call (6.8 and later).
        replacement: address of the replacement.
        code: the bytes of the replacement.
    """

    address: int
    length: int
    number: int
    inverted: bool
    direct_call: bool
    replacement: int
    code: bytes


def rows(kernel: KernelView) -> list[Row]:
    """All rows of a kernel, in order; none where it has no such section.

    Raises:
        TableError: a table of the image is malformed.
    """
    if not kernel.has_section(".altinstructions"):
        return []
    return [Row(*row) for row in kernel.tables.alternatives()]
