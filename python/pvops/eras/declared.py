"""Feature numbers as the kernel's sources declare them: the type of an era's `numbers`.

Bit numbers in the words that Linux itself assigns shift between stable releases: what is declared is a first guess that
`pvops.image.numbers` holds against the image.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter

from pvops.errors import OpsError
from pvops.tuples import NamedTuple


class Declared(NamedTuple):
    """The numbers of one release; make it with `of`, or from an earlier release's with `then`.

    Attributes:
        release: which: "6.1.192".
        ncapints: words of features (``NCAPINTS``).
        nbugints: words of bugs, which come after them (``NBUGINTS``).
        features: name without ``X86_FEATURE_`` → number (word * 32 + bit), ascending.
        bugs: name without ``X86_BUG_`` → number, counted from the first bug, ascending.
    """

    release: str
    ncapints: int
    nbugints: int
    features: Mapping[str, int]
    bugs: Mapping[str, int]

    @classmethod
    def of(cls, release: str, *, ncapints: int, nbugints: int, words: Mapping[int, str], bugs: str) -> Declared:
        """The numbers as a header has them.

        Args:
            release: which.
            ncapints: ``NCAPINTS``.
            nbugints: ``NBUGINTS``.
            words: word → ``NAME:bit NAME:bit …``.
            bugs: ``NAME:number …``.
        """
        return cls(release, ncapints, nbugints, _changed({}, words), _changed({}, {0: bugs}))

    def then(
        self, release: str, *, ncapints: int, nbugints: int, words: Mapping[int, str] | None = None, bugs: str = ""
    ) -> Declared:
        """The numbers of another release: ``NAME:bit`` is new or has moved, ``-NAME`` has gone.

        Raises:
            OpsError: what went was not there.
        """
        features = _changed(self.features, words or {})
        return Declared(release, ncapints, nbugints, features, _changed(self.bugs, {0: bugs}))

    def __repr__(self) -> str:
        return f"<Declared {self.release}>"


def _changed(before: Mapping[str, int], words: Mapping[int, str]) -> Mapping[str, int]:
    numbers = dict(before)
    changes = [(word, *item.partition(":")) for word, text in words.items() for item in text.split()]
    for gone in (name.removeprefix("-") for _, name, _, bit in changes if not bit):
        if numbers.pop(gone, None) is None:
            raise OpsError(f"there was no {gone}")
    numbers |= {name: word * 32 + int(bit) for word, name, _, bit in changes if bit}
    return dict(sorted(numbers.items(), key=itemgetter(1)))
