"""The names that an image gives its features: ``x86_cap_flags`` and ``x86_bug_flags``.

Both are arrays of pointers to the names that /proc/cpuinfo prints, by number; NULL where nothing is printed
(arch/x86/kernel/cpu/mkcapflags.sh). A 64-bit Debian kernel has the symbols; one without data symbols (i386) has the
arrays, which are found by what they hold: pointers to "fpu", "vme", "de", "pse" in a row, and "f00f", "fdiv", "coma".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pvops.image.view import KernelView

_LONGEST = 24

_CAPS = ("x86_cap_flags", ("fpu", "vme", "de", "pse"))
_BUGS = ("x86_bug_flags", ("f00f", "fdiv", "coma"))


class Printed(NamedTuple):
    """The names of one array.

    Attributes:
        names: number → name.
        source: where the array was found.
    """

    names: Mapping[int, str]
    source: str


def features(kernel: KernelView, ncapints: int) -> Printed:
    """Names of features by number; none where the image has no such array."""
    return _array(kernel, *_CAPS, ncapints * 32)


def bugs(kernel: KernelView, nbugints: int) -> Printed:
    """Names of bugs by number, counted from the first bug."""
    return _array(kernel, *_BUGS, nbugints * 32)


def _array(kernel: KernelView, symbol: str, first: tuple[str, ...], count: int) -> Printed:
    address, source = kernel.address_of(symbol), f"{symbol} in the image"
    if address is None:
        address, source = _find(kernel, first), f"{symbol}, found by its contents"
    if address is None:
        return Printed({}, f"the image has no {symbol}")
    found = {}
    for i in range(count):
        pointer = kernel.read_word(address + i * kernel.word)
        if pointer and (name := _string(kernel, pointer)):
            found[i] = name
    return Printed(found, source)


def _find(kernel: KernelView, first: tuple[str, ...]) -> int | None:
    """The address of an array that begins with pointers to these names."""
    for name, address, size, _ in kernel.image.sections():
        if name not in (".rodata", ".data"):
            continue
        section = kernel.image.read(address, size) or b""
        for start in _occurrences(section, first[0].encode() + b"\0"):
            pointer = (address + start).to_bytes(kernel.word, "little")
            for at in _pointers(kernel, pointer):
                words = [kernel.read_word(at + i * kernel.word) for i in range(len(first))]
                if all(w and _string(kernel, w) == text for w, text in zip(words, first, strict=True)):
                    return at
    return None


def _pointers(kernel: KernelView, pointer: bytes) -> list[int]:
    found = []
    for name, address, size, _ in kernel.image.sections():
        if name in (".rodata", ".data"):
            section = kernel.image.read(address, size) or b""
            found += [address + at for at in _occurrences(section, pointer) if at % kernel.word == 0]
    return found


def _occurrences(section: bytes, text: bytes) -> list[int]:
    found, at = [], section.find(text)
    while at >= 0:
        found.append(at)
        at = section.find(text, at + 1)
    return found


def _string(kernel: KernelView, address: int) -> str | None:
    raw = kernel.image.read(address, _LONGEST)
    if raw is None or b"\0" not in raw:
        return None
    name = raw[: raw.index(b"\0")]
    return name.decode() if name and all(0x21 <= c < 0x7F for c in name) else None
