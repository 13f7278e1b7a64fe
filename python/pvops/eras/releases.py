"""The releases whose feature numbers were read from their sources, over all eras."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from pvops.eras import ERAS, Version, era, eras, version_of
from pvops.eras.declared import Declared


@cache
def all_releases() -> tuple[Declared, ...]:
    """The declared numbers of every release that has been read, oldest first."""
    return _sorted(eras())


def _sorted(names: Iterable[str]) -> tuple[Declared, ...]:
    known = {declared.release: declared for name in names for declared in era(name).numbers}
    return tuple(sorted(known.values(), key=lambda declared: version_of(declared.release) or ()))


def _minor(version: Version) -> Version:
    return version[: 3 if version[:2] == (2, 6) else 2]


def nearest(version: Version | None) -> Declared:
    """The declared numbers of the release nearest to a version: the newest that is not newer, else the oldest.

    Distributions count their own releases in the last number, which therefore does not.
    """
    # Newest first, and what began when it did: an era has the numbers of one before, or newer ones.
    began: dict[Version, list[str]] = {}
    first: Version = ()
    for listed in ERAS:
        first = listed.first or first
        began.setdefault(first, []).append(listed.name)
    for first in reversed(began):
        if version is None or first <= version:
            known = _sorted(began[first])
            not_newer = [d for d in known if version is None or _minor(version_of(d.release) or ()) <= _minor(version)]
            if not_newer:
                return not_newer[-1]
    return all_releases()[0]
