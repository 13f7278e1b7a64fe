"""Where static keys and static calls are used: the rows of ``__jump_table`` and of the static call sites."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pvops.image.view import KernelView


class Use(NamedTuple):
    """One site of a static key or a static call.

    Attributes:
        address: of the site.
        key: address of the key.
        inverted: of a jump label: it jumps where the key is off.
    """

    address: int
    key: int
    inverted: bool


def jump_labels(kernel: KernelView) -> list[Use]:
    """Every jump label of a kernel.

    Raises:
        TableError: a table of the image is malformed.
    """
    return _uses(kernel, "jump_labels")


def static_calls(kernel: KernelView) -> list[Use]:
    """Every site of a static call that is patched in place.

    Raises:
        TableError: a table of the image is malformed.
    """
    return _uses(kernel, "static_calls")


def _uses(kernel: KernelView, table: str) -> list[Use]:
    rows = kernel.tables.rows(table)
    return [Use(address, key, bool(inverted)) for _, address, _, _, inverted, _, key, _ in rows if key is not None]


def names_data(kernel: KernelView) -> bool:
    """Whether the image has symbols of data (CONFIG_KALLSYMS_ALL)."""
    return kernel.address_of("__start___jump_table") is not None
