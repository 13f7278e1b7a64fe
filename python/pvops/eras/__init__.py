"""What differs between kernel generations, one record each: ops, rules, nops, numbers, sites.

`eras` names them in order; `era` loads one. No era is loaded before it is asked for.

>>> pvops.ops.era("seed")
<Era 2.6.24-rc1>
>>> pvops.ops.eras()[-1]
'7.2'
"""

from __future__ import annotations

from pvops.eras.version import Version as Version
from pvops.eras.version import version_of as version_of
from pvops.errors import OpsError
from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pvops.eras.definition import Era


class Listed(NamedTuple):
    """One line of the list of eras.

    Attributes:
        name: of the era.
        module: its file.
        first: the first release that it holds for; it lasts to the next line's. None: only
            its marks tell it.
    """

    name: str
    module: str
    first: Version | None


#: Oldest first.
ERAS = (
    Listed("2.6.20", "v2_6_20", (2, 6, 20)),
    Listed("2.6.21", "v2_6_21", (2, 6, 21)),
    Listed("2.6.22", "v2_6_22", (2, 6, 22)),
    Listed("2.6.23-flat", "v2_6_23_flat", (2, 6, 23)),
    Listed("2.6.23", "v2_6_23", None),
    Listed("2.6.24-rc1", "v2_6_24_rc1", (2, 6, 24)),
    Listed("2.6.24", "v2_6_24", (2, 6, 24)),
    Listed("2.6.26", "v2_6_26", (2, 6, 25)),
    Listed("2.6.27", "v2_6_27", (2, 6, 27)),
    Listed("2.6.30", "v2_6_30", (2, 6, 30)),
    Listed("2.6.33", "v2_6_33", (2, 6, 32)),
    Listed("2.6.32-el6", "v2_6_32_el6", None),
    Listed("2.6.34", "v2_6_34", (2, 6, 34)),
    Listed("2.6.38", "v2_6_38", (2, 6, 38)),
    Listed("3.0", "v3_0", (3, 0)),
    Listed("3.1", "v3_1", (3, 1)),
    Listed("3.3", "v3_3", (3, 3)),
    Listed("3.5", "v3_5", (3, 5)),
    Listed("3.10", "v3_10", (3, 10)),
    Listed("3.10-el7", "v3_10_el7", None),
    Listed("3.12", "v3_12", (3, 12)),
    Listed("3.15", "v3_15", (3, 15)),
    Listed("4.1", "v4_1", (4, 1)),
    Listed("4.2", "v4_2", (4, 2)),
    Listed("4.3", "v4_3", (4, 3)),
    Listed("4.5", "v4_5", (4, 5)),
    Listed("4.7", "v4_7", (4, 7)),
    Listed("4.9", "v4_9", (4, 9)),
    Listed("4.10", "v4_10", (4, 10)),
    Listed("4.11", "v4_11", (4, 11)),
    Listed("4.12", "v4_12", (4, 12)),
    Listed("4.14", "v4_14", (4, 14)),
    Listed("4.16", "v4_16", (4, 16)),
    Listed("4.17", "v4_17", (4, 17)),
    Listed("4.18", "v4_18", (4, 18)),
    Listed("4.18-el8", "v4_18_el8", None),
    Listed("4.19", "v4_19", (4, 19)),
    Listed("4.20", "v4_20", (4, 20)),
    Listed("5.3", "v5_3", (5, 3)),
    Listed("5.4", "v5_4", (5, 4)),
    Listed("5.5", "v5_5", (5, 5)),
    Listed("5.6", "v5_6", (5, 6)),
    Listed("5.8", "v5_8", (5, 8)),
    Listed("5.10.0", "v5_10_0", None),
    Listed("5.10", "v5_10", (5, 10)),
    Listed("5.11", "v5_11", (5, 11)),
    Listed("5.12", "v5_12", (5, 12)),
    Listed("5.13", "v5_13", (5, 13)),
    Listed("5.15", "v5_15", (5, 15)),
    Listed("5.18", "v5_18", (5, 18)),
    Listed("6.1", "v6_1", (6, 0)),
    Listed("6.3", "v6_3", (6, 3)),
    Listed("6.4", "v6_4", (6, 4)),
    Listed("6.5", "v6_5", (6, 5)),
    Listed("6.8", "v6_8", (6, 8)),
    Listed("6.12", "v6_12", (6, 10)),
    Listed("6.14", "v6_14", (6, 14)),
    Listed("6.15", "v6_15", (6, 15)),
    Listed("6.18", "v6_18", (6, 18)),
    Listed("7.2", "v7_2", (7, 0)),
)

#: The newest release whose rules were read; what is newer is taken by the last era's.
NEWEST: Version = (7, 3)

_ALIASES = {"seed": "2.6.24-rc1"}


def eras() -> tuple[str, ...]:
    """Names of the eras, oldest first. No image is of 2.6.23's, which the seed took apart: it can be shown."""
    return tuple(listed.name for listed in ERAS)


def era(name: str) -> Era:
    """The era of this name, or of an alias (``seed`` is 2.6.24-rc1); `OpsError` if there is none."""
    import copyreg
    from importlib import import_module

    from pvops.errors import wanted

    wanted(name, str, "an era's name")
    meant = _ALIASES.get(name, name)
    for listed in ERAS:
        if listed.name == meant:
            found: Era = import_module(f"pvops.eras.{listed.module}").ERA
            copyreg.pickle(type(found), _reduced)
            return found
    from pvops.errors import nearest

    version = version_of(name)
    covers = None if version is None or version[: len(NEWEST)] > NEWEST else of_version(version)
    hint = f" (did you mean {covers}, which {name} is of?)" if covers else nearest(name, (*eras(), *_ALIASES))
    raise OpsError(f"no era {name}{hint or '; there are ' + ', '.join(eras())}")


def _reduced(of: Era) -> tuple[Callable[..., Era], tuple[object, ...]]:
    """The package's own cross to other processes by name: pickle does not know what they declare."""
    if of.name in eras() and era(of.name) is of:
        return era, (of.name,)
    return type(of), tuple(of)


def doc(of: Era, op: str) -> str:
    """What an op of an era does, in a line: as that era's header says, else the first era's that says it.

    Raises:
        OpsError: the era has no such op.
    """
    said = of.doc(op)
    if said:
        return said
    field = op.partition(".")[2]
    for name in eras():
        for struct in era(name).structs:
            if field in struct.ops and struct.ops[field].doc:
                return struct.ops[field].doc
    return ""


def of_version(version: Version) -> str | None:
    """The name of the era that a release's version lies in; None where it is older than all of them."""
    found = None
    for listed in ERAS:
        if listed.first is not None and listed.first <= version:
            found = listed.name
    return found
