"""Static calls, and what the image tells of static keys."""

from __future__ import annotations

from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.image.view import KernelView


class Call(NamedTuple):
    """One static call.

    Attributes:
        name: as ``DEFINE_STATIC_CALL`` has it; None where the image does not tell.
        built: address of the function it is built with; 0 for NULL.
    """

    name: str | None
    built: int


def calls(kernel: KernelView) -> dict[int, Call]:
    """Every static call that has sites or a trampoline, by the address of its key, ascending; one whose
    trampoline's key nothing names, by the trampoline's address too.

    Raises:
        TableError: a table of the image is malformed.
    """
    return {key: Call(name, built) for key, name, built in kernel.tables.call_keys()}


#: An offset into a symbol beyond this is no place in it: the image names little of its data.
_LARGEST = 0x1000
#: Symbols that end where a section does, and stand for nothing that is there.
_EDGES = ("_end", "_start", "__start", "__stop", "__end", "_sdata", "_edata", "_etext", "_einittext", "init_")


def place_in_data(place: tuple[str, int] | None) -> tuple[str, int] | None:
    """The symbol of data and the offset into it, as the image places an address; None where it names none there."""
    return None if place is None or place[1] >= _LARGEST or place[0].startswith(_EDGES) else place


def size_of_data(kernel: KernelView, address: int, symbol: str) -> int:
    """The size of a symbol of data: up to where the image names another; 0 where it is too long to tell."""
    for size in range(16, 4 * _LARGEST, 16):
        found = kernel.image.symbol_at(address + size)
        if found is None or found[0] != symbol:
            return size
    return 0


def string_at(kernel: KernelView, address: int | None, *sizes: int) -> bytes:
    """The string at an address, by the first of these sizes in bytes that can be read and has its end; else nothing."""
    if not address:
        return b""
    for size in sizes:
        raw = kernel.image.read(address, size)
        if raw is not None and b"\0" in raw:
            return raw.partition(b"\0")[0]
    return b""


def tracepoint(kernel: KernelView, key: int) -> str | None:
    """The tracepoint that a key belongs to: ``struct tracepoint`` has its name's pointer before the key."""
    name = string_at(kernel, kernel.read_word(key - kernel.word), 64)
    is_name = name.isascii() and len(name) > 2 and name.decode().isidentifier()
    return name.decode() if is_name else None
