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


class Call(NamedTuple):
    """One static call.

    Attributes:
        name: as ``DEFINE_STATIC_CALL`` has it; None where the image does not tell.
        built: address of the function it is built with; 0 for NULL.
    """

    name: str | None
    built: int


def calls(kernel: KernelView) -> dict[int, Call]:
    """Every static call that has sites or a trampoline, by the address of its key; one whose trampoline's key nothing
    names, by the trampoline's address too.

    A site calls the trampoline until the kernel patches it, so that it says which key ``__SCT__NAME`` belongs to.
    """
    found: dict[int, Call] = {}
    keys: dict[int, int] = {}
    for use in static_calls(kernel):
        if use.key not in found:
            target = _branch(kernel, use.address)
            name = _called(kernel, use.key, target)
            found[use.key] = Call(name, kernel.read_word(use.key) or 0)
            if target is not None:
                keys[target] = use.key
    for _, address, *_, key, _ in kernel.tables.rows("trampolines"):
        if key is None:
            own = found.get(keys.get(address, 0))
            # A trampoline that goes nowhere is built as a return, which may be a jump to the return thunk.
            returns = any(at == address for _, at, *_ in kernel.tables.rows("returns", address, address + 1))
            goes = 0 if returns else _branch(kernel, address) or 0
            found[address] = own or Call(_trampoline(kernel, address), goes)
        elif key not in found:
            found[key] = Call(_called(kernel, key, address), kernel.read_word(key) or 0)
    return found


def _called(kernel: KernelView, key: int, trampoline: int | None) -> str | None:
    own = kernel.symbol_at(key) or ""
    if own.startswith("__SCK__"):
        return own.removeprefix("__SCK__")
    return _trampoline(kernel, trampoline) if trampoline is not None else None


def _trampoline(kernel: KernelView, address: int) -> str | None:
    """What the trampoline at an address is called without ``__SCT__``; None where no symbol says."""
    symbol = kernel.symbol_at(address) or ""
    return symbol.removeprefix("__SCT__") if symbol.startswith("__SCT__") else None


def _branch(kernel: KernelView, address: int) -> int | None:
    """Where a direct call or jump goes, or a conditional one; None for anything else."""
    code = kernel.image.read(address, 6) or b""
    at = 1 if code[:1] == b"\x0f" else 0
    if len(code) < 6 or (code[0] not in (0xE8, 0xE9) and not (at and 0x80 <= code[1] < 0x90)):
        return None
    end = address + at + 5
    return end + int.from_bytes(code[at + 1 : at + 5], "little", signed=True) & (1 << kernel.bits) - 1


#: An offset into a symbol beyond this is no place in it: the image names little of its data.
_LARGEST = 0x1000
#: Symbols that end where a section does, and stand for nothing that is there.
_EDGES = ("_end", "_start", "__start", "__stop", "__end", "_sdata", "_edata", "_etext", "_einittext", "init_")


def name_of_data(kernel: KernelView, address: int) -> tuple[str, int] | None:
    """The symbol of data that an address lies in, and the offset into it; None where the image names none there."""
    found = kernel.image.symbol_at(address)
    if found is None or found[1] >= _LARGEST or found[0].startswith(_EDGES):
        return None
    return found


def size_of_data(kernel: KernelView, address: int, symbol: str) -> int:
    """The size of a symbol of data: up to where the image names another; 0 where it is too long to tell."""
    for size in range(16, 4 * _LARGEST, 16):
        found = kernel.image.symbol_at(address + size)
        if found is None or found[0] != symbol:
            return size
    return 0


def tracepoint(kernel: KernelView, key: int) -> str | None:
    """The tracepoint that a key belongs to: ``struct tracepoint`` has its name's pointer before the key."""
    pointer = kernel.read_word(key - kernel.word)
    raw = kernel.image.read(pointer, 64) if pointer else None
    name = raw.partition(b"\0")[0] if raw is not None and b"\0" in raw else b""
    is_name = name.isascii() and len(name) > 2 and name.decode().isidentifier()
    return name.decode() if is_name else None
