"""Which variables the ops of an image are in: one array, one flat structure (before 2.6.24), or a structure each."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pvops.image.view import KernelView


def kind(likely: Callable[[], str | None]) -> tuple[str, bool]:
    """The variable of the ops before 2.6.24, and whether types have numbers of their own; nothing of later kernels."""
    name = likely()
    if name is None or not name.startswith("2.6.2"):
        return "", False
    from pvops import eras

    array = eras.era(name).arrays[0]
    return array.symbol, array.numbered


def apart(likely: Callable[[], str | None]) -> bool:
    """Whether each structure of ops is a variable of its own, up to 4.19."""
    from pvops import eras

    name = likely()
    return name is not None and not eras.era(name).arrays[0].symbol


def structures(kernel: KernelView, likely: Callable[[], str | None]) -> dict[str, int]:
    """The addresses of the ops structures of a kernel before 4.20, by name; nothing of later ones."""
    release = kernel.release or ""
    if release[:1].isdigit() and not release.startswith(("2.", "3.", "4.")):
        # The rules would say so too, but importing them takes as long as listing the sites.
        return {}
    from pvops import eras as ops

    name = likely()
    era = None if name is None else ops.era(name)
    if era is None or era.arrays[0].symbol:
        return {}
    # A stable release or a distribution may have the table of an era beside its own.
    at = ops.eras().index(era.name)
    beside = (ops.era(other).structs for other in ops.eras()[max(at - 2, 0) : at + 3])
    names = dict.fromkeys(struct.__name__ for structs in beside for struct in structs)
    found = ((struct, kernel.address_of(struct)) for struct in names)
    return {struct: address for struct, address in found if address is not None}
