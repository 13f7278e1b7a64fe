"""The ops, kernel generation by kernel generation.

`eras` names them in order; `era` loads one. No era is loaded before it is asked for.
"""

from __future__ import annotations

from pvops.eras.definition import Era
from pvops.errors import OpsError

#: Name → module, oldest first.
_MODULES = {
    "2.6.23": "v2_6_23",
    "seed": "v2_6_24_rc1",
    "2.6.24": "v2_6_24",
    "2.6.33": "v2_6_33",
    "5.10": "v5_10",
    "6.1": "v6_1",
    "6.12": "v6_12",
    "7.2": "v7_2",
}


def eras() -> tuple[str, ...]:
    """Names of the eras, oldest first. 2.6.23 is what the seed took apart: it can be shown, but has no backends."""
    return tuple(_MODULES)


def era(name: str) -> Era:
    """The era of this name; `OpsError` if there is none."""
    try:
        module = _MODULES[name]
    except KeyError:
        raise OpsError(f"no era {name}; there are {', '.join(_MODULES)}") from None
    from importlib import import_module

    found: Era = import_module(f"pvops.eras.{module}").ERA
    return found
