"""The names that an image gives its features and bugs, and how many words of each it has.

``x86_cap_flags`` and ``x86_bug_flags`` are arrays of pointers to the names that /proc/cpuinfo prints, by number; NULL
where nothing is printed (arch/x86/kernel/cpu/mkcapflags.sh). They have NCAPINTS * 32 and NBUGINTS * 32 entries, which
no header of an image says: stable releases and distributions move both (RHEL 7's 3.10 has 20 and 10, RHEL 8's 4.18 30
and 2). How long an array is, its distance to what follows it tells: the compiler lays ``x86_bug_flags``,
``x86_cap_flags`` and ``x86_power_flags`` side by side (since 5.6 with ``x86_vmx_flags``), in an order of its own.

An image that names no data (CONFIG_KALLSYMS_ALL=n) has the arrays too: they are found by the names they begin with.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.image.view import KernelView

_LONGEST = 24
#: No kernel has more words of features, or of bugs.
_MOST_WORDS = 48
_ENTRIES = 32


class _Array(NamedTuple):
    """An array of names: its symbol, and by entry some names that it has in every kernel, the rarest string first."""

    symbol: str
    names: Mapping[int, str]


_CAPS = _Array("x86_cap_flags", {15: "cmov", 13: "pge", 14: "mca", 16: "pat"})
_BUGS = _Array("x86_bug_flags", {0: "f00f", 1: "fdiv", 2: "coma"})
_BESIDE = (
    _Array("x86_power_flags", {6: "100mhzsteps", 0: "ts", 1: "fid", 2: "vid"}),
    # Bits of the first word of arch/x86/include/asm/vmxfeatures.h.
    _Array("x86_vmx_flags", {6: "preemption_timer", 5: "vnmi", 7: "posted_intr"}),
)

#: Array → some entries that it has in every kernel.
CAPTIONED: Mapping[str, Mapping[int, str]] = {array.symbol: array.names for array in (_CAPS, _BUGS, *_BESIDE)}


#: What /proc/cpuinfo calls features whose kernel name, in lower case, is another (arch/x86/include/asm/cpufeatures.h).
ALIASES = {
    "dts": "DS",
    "sse": "XMM",
    "sse2": "XMM2",
    "ss": "SELFSNOOP",
    "tm": "ACC",
    "pdpe1gb": "GBPAGES",
    "pni": "XMM3",
    "monitor": "MWAIT",
    "sse4_1": "XMM4_1",
    "sse4_2": "XMM4_2",
    "rng": "XSTORE",
    "rng_en": "XSTORE_EN",
    "ace": "XCRYPT",
    "ace_en": "XCRYPT_EN",
    "svm_lock": "SVML",
    "nrip_save": "NRIPS",
    "tsc_scale": "TSCRATEMSR",
    "vmcb_clean": "VMCBCLEAN",
    "ds_cpl": "DSCPL",
    "eagerfpu": "EAGER_FPU",
}


class Printed(NamedTuple):
    """The names of one array.

    Attributes:
        names: number → name.
        words: how many words of 32 it has, where the image tells; else None.
        source: where the array was found.
    """

    names: Mapping[int, str]
    words: int | None
    source: str


class FlagNames:
    """The names in one image.

    Args:
        kernel: the image.
    """

    def __init__(self, kernel: KernelView) -> None:
        self._kernel = kernel
        self._found: dict[str, tuple[int | None, str]] = {}

    def features(self, words: int) -> Printed:
        """Names of features by number; none where the image has no such array.

        Args:
            words: how many to read where the image does not tell.
        """
        return self._printed(_CAPS, words)

    def bugs(self, words: int) -> Printed:
        """Names of bugs by number, counted from the first bug."""
        return self._printed(_BUGS, words)

    def _printed(self, array: _Array, words: int) -> Printed:
        address, source = self._place(array)
        if address is None:
            return Printed({}, None, source)
        stated = self._words(array.symbol, address)
        found = {}
        for i in range((words if stated is None else stated) * _ENTRIES):
            pointer = self._kernel.read_word(address + i * self._kernel.word)
            if pointer and (name := _string(self._kernel, pointer)):
                found[i] = name
        return Printed(found, stated, source)

    def _place(self, array: _Array) -> tuple[int | None, str]:
        """Where an array lies, and its source."""
        if array.symbol not in self._found:
            address, source = self._kernel.address_of(array.symbol), f"{array.symbol} in the image"
            if address is None:
                address, source = self._search(array), f"{array.symbol}, found by its contents"
            if address is None:
                source = f"the image has no {array.symbol}"
            self._found[array.symbol] = address, source
        return self._found[array.symbol]

    def _words(self, symbol: str, address: int) -> int | None:
        """How many words of 32 entries an array has: up to the nearest of the others, or to the next symbol."""
        size = _ENTRIES * self._kernel.word
        others = (self._place(array)[0] for array in (_CAPS, _BUGS, *_BESIDE) if array.symbol != symbol)
        ends = [other for other in others if other is not None and other > address]
        beside = (min(ends) - address) // size if ends and (min(ends) - address) % size == 0 else None
        named = None
        if self._kernel.address_of(symbol) is not None:
            inside = range(1, _MOST_WORDS + 1)
            places = (self._kernel.image.symbol_at(address + n * size) for n in inside)
            behind = ((n, place) for n, place in zip(inside, places, strict=True) if place and place[1] < n * size)
            # A symbol that begins elsewhere than where a word ends has something without a name before it.
            named = next((n if place[1] == 0 else None for n, place in behind), None)
        counts = [n for n in (beside, named) if n is not None and n <= _MOST_WORDS]
        return min(counts, default=None)

    def _search(self, array: _Array) -> int | None:
        """The address of an array that holds pointers to its names."""
        word = self._kernel.word
        entry, rarest = next(iter(array.names.items()))
        for start, section in self._data:
            # The linker merges a string with the end of a longer one: what stands before it does not matter.
            for text in _occurrences(section, rarest.encode() + b"\0"):
                pointer = (start + text).to_bytes(word, "little")
                for base, held in self._data:
                    for at in _occurrences(held, pointer):
                        address = base + at - entry * word
                        if address % word == 0 and self._has(address, array.names):
                            return address
        return None

    def _has(self, address: int, names: Mapping[int, str]) -> bool:
        pointers = {i: self._kernel.read_word(address + i * self._kernel.word) for i in names}
        return all((p := pointers[i]) and _string(self._kernel, p) == name for i, name in names.items())

    @cached_property
    def _data(self) -> list[tuple[int, bytes]]:
        """The sections that hold names and arrays of them, with their addresses."""
        return [
            (address, self._kernel.image.read(address, size) or b"")
            for name, address, size, _ in self._kernel.image.sections()
            if name in (".rodata", ".data")
        ]


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


def kernel_name(printed: str) -> str:
    """The kernel's name of a feature, by what /proc/cpuinfo calls it."""
    return ALIASES.get(printed, printed.upper())
