"""Feature numbers as the kernel's sources declare them: the type of an era's `numbers`.

Bit numbers in the words that Linux itself assigns shift between stable releases: what is declared is a first guess that
`pvops.image.numbers` holds against the image.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from pvops.errors import OpsError


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

    def then(
        self, release: str, *, ncapints: int, nbugints: int, words: Mapping[int, str] | None = None, bugs: str = ""
    ) -> Declared:
        """The numbers of a later release: ``NAME:bit`` is new or has moved, ``-NAME`` has gone.

        Raises:
            OpsError: what went was not there.
        """
        merged = {word: _changed(text, (words or {}).get(word, "")) for word, text in self._words.items()}
        merged |= {word: text for word, text in (words or {}).items() if word not in self._words}
        return Declared(release, ncapints=ncapints, nbugints=nbugints, words=merged, bugs=_changed(self._bugs, bugs))

    def __repr__(self) -> str:
        return f"<Declared {self.release}>"


def _changed(text: str, changes: str) -> str:
    if not changes:
        return text
    bits = {name: bit for name, _, bit in (item.partition(":") for item in text.split())}
    for change in changes.split():
        name, _, bit = change.partition(":")
        if bit:
            bits[name] = bit
        elif bits.pop(name.removeprefix("-"), None) is None:
            raise OpsError(f"there was no {name.removeprefix('-')}")
    return " ".join(f"{name}:{bit}" for name, bit in bits.items())
