"""The rows of ``.altinstructions``, as far as the feature numbers need them: where, what, and on which feature."""

from __future__ import annotations

from pvops.tuples import NamedTuple

TYPE_CHECKING = False
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


class Alike(NamedTuple):
    """Rows that are alike in everything but where they are.

    Attributes:
        length: of the sites in bytes.
        number: of the feature or bug.
        inverted: they ask for the feature's absence.
        direct_call: they are direct calls of what the sites' indirect calls would call.
        code: the bytes of the replacement; none of a direct call.
        how_many: how many there are; `pvops._core.Tables.alternatives_of` has all.
        first: index, address of the site and of the replacement of the first.
    """

    length: int
    number: int
    inverted: bool
    direct_call: bool
    code: bytes
    how_many: int
    first: tuple[int, int, int]


def alike(kernel: KernelView) -> list[Alike]:
    """The rows of a kernel that are alike, in the order of their first; none where it has no such section.

    Raises:
        TableError: a table of the image is malformed.
    """
    if not kernel.has_section(".altinstructions"):
        return []
    return [Alike(*found) for found in kernel.tables.alternatives_alike()]


def rows(kernel: KernelView) -> list[Row]:
    """All rows of a kernel, in order; none where it has no such section.

    Raises:
        TableError: a table of the image is malformed.
    """
    if not kernel.has_section(".altinstructions"):
        return []
    return [Row(*row) for row in kernel.tables.alternatives()]
