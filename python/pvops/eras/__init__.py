"""What differs between kernel generations, one record each: ops, rules, nops, numbers, sites.

`eras` names them in order; `era` loads one. No era is loaded before it is asked for.
"""

from __future__ import annotations

from typing import NamedTuple

from pvops.errors import OpsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.definition import Era

#: A release by its numbers: (6, 1), and of 2.6 (2, 6, 33).
Version = tuple[int, ...]


class Listed(NamedTuple):
    """One line of the list of eras.

    Attributes:
        name: of the era.
        module: its file.
        first: the first release that it holds for; it lasts to the next line's.
    """

    name: str
    module: str
    first: Version


#: Oldest first.
ERAS = (
    Listed("2.6.23", "v2_6_23", (2, 6, 20)),
    Listed("2.6.24-rc1", "v2_6_24_rc1", (2, 6, 24)),
    Listed("2.6.24", "v2_6_24", (2, 6, 24)),
    Listed("2.6.33", "v2_6_33", (2, 6, 27)),
    Listed("5.10", "v5_10", (4, 20)),
    Listed("6.1", "v6_1", (5, 13)),
    Listed("6.12", "v6_12", (6, 8)),
    Listed("7.2", "v7_2", (7, 0)),
)

_ALIASES = {"seed": "2.6.24-rc1"}


def eras() -> tuple[str, ...]:
    """Names of the eras, oldest first. 2.6.23 is what the seed took apart: it can be shown, but has no backends."""
    return tuple(listed.name for listed in ERAS)


def era(name: str) -> Era:
    """The era of this name, or of an alias (``seed`` is 2.6.24-rc1); `OpsError` if there is none."""
    from importlib import import_module

    wanted = _ALIASES.get(name, name)
    for listed in ERAS:
        if listed.name == wanted:
            found: Era = import_module(f"pvops.eras.{listed.module}").ERA
            return found
    from pvops.errors import nearest

    raise OpsError(f"no era {name}{nearest(name, eras())}; there are {', '.join(eras())}")


def of_version(version: Version) -> str | None:
    """The name of the era that a release's version lies in; None where it is older than all of them."""
    found = None
    for listed in ERAS:
        if listed.first <= version:
            found = listed.name
    return found


def version_of(release: str | None) -> Version | None:
    """``(6, 12)`` of ``6.12.117+deb12-amd64``, ``(2, 6, 33)`` of ``2.6.33.3``; None for anything else."""
    import re

    found = re.match(r"(\d{1,3})\.(\d{1,3})(?:\.(\d{1,3}))?", release or "")
    if found is None:
        return None
    version = (int(found[1]), int(found[2]))
    return (*version, int(found[3] or 0)) if version == (2, 6) else version
