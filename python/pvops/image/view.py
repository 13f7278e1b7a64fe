"""What a file says of its kernel: name, release, symbols, words, sections and tables. Nothing is decided here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cached_property

import pvops._core as _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.version import Version

#: Variables of every kernel: where kallsyms lists data, one of them is listed.
_DATA = ("boot_cpu_data", "init_task", "jiffies_64", "linux_banner")
#: Tables that may have too few rows to be told by what is in them.
MAY_LACK = ("jump_labels", "static_calls")
#: The fewest sections of one function each that a kernel is linked with where it may shuffle them: they are thousands.
_SHUFFLED = 100


class KernelView:
    """An opened image, as what reads it sees it.

    Args:
        image: the core's image.
    """

    def __init__(self, image: _core.Image) -> None:
        self.image = image

    @property
    def name(self) -> str:
        """The file as it was named, ``<bytes>`` or ``<stdin>``."""
        return self.image.name

    @property
    def release(self) -> str | None:
        """``6.1.0-56-amd64``, from the kernel's banner; None where it has none."""
        return self.image.release

    @property
    def sources(self) -> Version | None:
        """``(6, 1, 181)``: the version of the sources that it is built from, as far as its banner tells."""
        from pvops.eras.version import of_sources

        return of_sources(self.release, self.image.banner)

    @property
    def bits(self) -> int:
        """Pointer size in bits: 32 or 64."""
        return self.image.bits

    @property
    def word(self) -> int:
        """Pointer size in bytes."""
        return self.bits // 8

    @property
    def arch(self) -> str:
        """``x86_64`` or ``i386``."""
        return "x86_64" if self.bits == 64 else "i386"

    @cached_property
    def lowest(self) -> int:
        """The lowest address of a section as linked, per-CPU data at 0 left out."""
        return min((a for _, a, size, _ in self.image.sections() if a and size), default=1 << 30)

    def address_of(self, symbol: str) -> int | None:
        """The address of a symbol as linked, or None."""
        return self.image.address_of(symbol)

    def symbol_at(self, address: int) -> str | None:
        """The function that starts at an address, or None."""
        found = self._symbol(address)
        return found[0] if found and found[1] == 0 else None

    def place(self, address: int) -> str | None:
        """Where an address lies, ``do_syscall_64+0x3a``; None where the image names nothing there."""
        found = self._symbol(address)
        return f"{found[0]}+{found[1]:#x}" if found else None

    def _symbol(self, address: int) -> tuple[str, int] | None:
        """The symbol of an address; a number that is no address of 64 bits lies in none."""
        return self.image.symbol_at(address) if 0 <= address < 1 << 64 else None

    def read_word(self, address: int) -> int | None:
        """The pointer at an address as built, or None where the image has no bytes."""
        return self.image.read_word(address) if 0 <= address < 1 << 64 else None

    def has_section(self, name: str) -> bool:
        """Whether the image has a section of this name."""
        return name in self._section_names

    @cached_property
    def shuffled(self) -> int:
        """How many sections of text a boot may put in another order; 0 where it puts none.

        A kernel with function-granular KASLR (the fgkaslr patches, which no release has) is linked with a section for
        each function, ``.text.NAME``; others have a handful of them at most, or none.
        """
        sections = sum(name.startswith(".text.") for name in self._section_names)
        return sections if sections >= _SHUFFLED else 0

    @cached_property
    def _section_names(self) -> frozenset[str]:
        return frozenset(section for section, *_ in self.image.sections())

    def replaces_by_call(self) -> bool:
        """Whether some row of ``.altinstructions`` has one call for its replacement."""
        if not self.has_section(".altinstructions"):
            return False
        return any(code[:1] == b"\xe8" and len(code) == 5 for _, _, _, _, code, *_ in self.tables.alternatives_alike())

    def has_constant(self, raw: bytes) -> bool:
        """Whether these bytes stand among the image's constants (``.rodata``)."""
        return bool(self.image.find(".rodata", raw))

    def has_code(self, raw: bytes, function: str) -> bool:
        """Whether these bytes stand in ``.text``; a function that the image names is looked into first."""
        address = self.address_of(function)
        begins = address is not None and self.image.read(address, 64)
        return bool(begins and raw in begins) or bool(self.image.find(".text", raw))

    def find_words(self, words: Mapping[int, int]) -> int | None:
        """Where data hold these words: a table of pointers that no symbol names.

        Args:
            words: offset in bytes → word.

        Returns:
            The address of offset 0, where at least three in four of the words are there, and three at least; None
            where that is nowhere, or at several places.
        """
        votes: Counter[int] = Counter()
        for section, address, size, executable in self.image.sections():
            if executable or not size or not address or section.startswith((".altinstr", "__ksymtab")):
                continue
            held = self.image.read(address, size) or b""
            for offset, word in words.items():
                raw = word.to_bytes(self.word, "little")
                at = held.find(raw)
                while at >= 0:
                    if (address + at) % self.word == 0:
                        votes[address + at - offset] += 1
                    at = held.find(raw, at + 1)
        enough = [place for place, n in votes.items() if n >= 3 and 4 * n >= 3 * len(words)]
        return enough[0] if len(enough) == 1 else None

    @cached_property
    def tables_not_found(self) -> tuple[str, ...]:
        """Tables that the kernel may have, that no symbol names, and that were not found by what is in them either.

        A few rows look like any data: jump labels are told from 16 rows on, static calls from 8. Where the image names
        its data, a table without symbols is not there.

        Raises:
            TableError: a table is malformed.
        """
        if self.image.is_module or any(self.address_of(symbol) is not None for symbol in _DATA):
            return ()
        # CONFIG_JUMP_LABEL, of 2.6.37 and later, has this function.
        version, named = self.sources, bool(self.image.symbol_count())
        may_jump = self.address_of("jump_label_init") is not None if named else version is None or version >= (2, 6, 37)
        missing = []
        if may_jump and not self.tables.rows("jump_labels"):
            missing += ["jump_labels"]
        if self.bits == 64 and self.tables.rows("trampolines") and not self.tables.rows("static_calls"):
            missing += ["static_calls"]
        return tuple(missing)

    @cached_property
    def paravirt(self) -> _core.ParavirtSites | None:
        """The rows of ``.parainstructions``; None where the image has none (6.8 and later).

        Raises:
            TableError: the table is malformed.
        """
        return _core.ParavirtSites.read(self.image)

    @cached_property
    def tables(self) -> _core.Tables:
        """Every table of the image.

        Raises:
            TableError: one of them is malformed.
        """
        return _core.Tables.read(self.image)
