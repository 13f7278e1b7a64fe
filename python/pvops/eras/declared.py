"""Feature numbers as the kernel's sources declare them: the type of an era's `numbers`.

Bit numbers in the words that Linux itself assigns shift between stable releases: what is declared is a first guess that
`pvops.image.numbers` holds against the image.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from pvops.eras import Version, eras, version_of


class Declared:
    """The numbers of one release.

    Args:
        release: which: "6.1.192".
        ncapints: words of features (``NCAPINTS``).
        nbugints: words of bugs, which come after them (``NBUGINTS``).
        words: word → ``NAME:bit NAME:bit …``, names without ``X86_FEATURE_``.
        bugs: ``NAME:number …``, numbers counted from the first bug, names without ``X86_BUG_``.
    """

    def __init__(self, release: str, *, ncapints: int, nbugints: int, words: Mapping[int, str], bugs: str) -> None:
        self.release = release
        self.ncapints = ncapints
        self.nbugints = nbugints
        self._words = words
        self._bugs = bugs

    @cached_property
    def features(self) -> Mapping[str, int]:
        """Name → number (word * 32 + bit)."""
        return {
            name: word * 32 + int(bit)
            for word, text in self._words.items()
            for name, _, bit in (item.partition(":") for item in text.split())
        }

    @cached_property
    def bugs(self) -> Mapping[str, int]:
        """Name → number, counted from the first bug."""
        return {name: int(bit) for name, _, bit in (item.partition(":") for item in self._bugs.split())}

    def __repr__(self) -> str:
        return f"<Declared {self.release}>"


def releases() -> list[Declared]:
    """The declared numbers of every release that has been read, oldest first."""
    from pvops.eras import era

    known = {declared.release: declared for name in eras() for declared in era(name).numbers}
    return sorted(known.values(), key=lambda declared: version_of(declared.release) or ())


def nearest(version: Version | None) -> Declared:
    """The declared numbers of the release nearest to a version: the newest that is not newer, else the oldest."""
    known = releases()
    not_newer = [d for d in known if version is None or (version_of(d.release) or ()) <= version]
    return not_newer[-1] if not_newer else known[0]
