"""Feature numbers as the kernel's sources declare them, one module a release.

Bit numbers in the words that Linux itself assigns shift between stable releases: what is declared here is a first guess
that `pvops.image.numbers` holds against the image.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

_MODULES = {
    (5, 10): "declared_5_10",
    (6, 1): "declared_6_1",
    (6, 12): "declared_6_12",
    (7, 2): "declared_7_2",
}


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


def nearest(version: tuple[int, int] | None) -> Declared:
    """The declared numbers of the release nearest to a version: the newest that is not newer, else the oldest."""
    from importlib import import_module

    known = [v for v in _MODULES if version is None or v <= version] or [min(_MODULES)]
    found: Declared = import_module(f"pvops.eras.{_MODULES[max(known)]}").declared
    return found


def version_of(release: str | None) -> tuple[int, int] | None:
    """``(6, 12)`` of ``6.12.117+deb12-amd64``; None for anything else."""
    import re

    found = re.match(r"(\d{1,3})\.(\d{1,3})", release or "")
    return (int(found.group(1)), int(found.group(2))) if found else None
