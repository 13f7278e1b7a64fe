"""Backends by name: ``pvops.backends.get("xen-hvm")``, or ``pvops.backends.xen_hvm``.

Each is a module of its own, imported when first asked for, that has the `Backend` under the name ``backend``. Names
have dashes on the command line and underscores in Python.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pvops.backends.backend import Backend

    native: Backend
    kvm: Backend
    xen: Backend
    xen_hvm: Backend
    vmware: Backend
    hyperv: Backend
    lguest: Backend
    vmi: Backend

_NAMES = ("native", "kvm", "xen", "xen-hvm", "vmware", "hyperv", "lguest", "vmi")


def names() -> tuple[str, ...]:
    """The names of all backends, as on the command line."""
    return _NAMES


def get(name: str) -> Backend:
    """The backend of a name, with dashes or underscores; `OpsError` with the list of names for any other."""
    from importlib import import_module

    from pvops.errors import OpsError

    dashed = name.replace("_", "-")
    if dashed not in _NAMES:
        raise OpsError(f"no backend {name} (there are {', '.join(_NAMES)})")
    module = f"{__name__}.{dashed.replace('-', '_')}"
    try:
        found: Backend = import_module(module).backend
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise OpsError(f"backend {dashed} is not part of this build") from None
    return found


def __getattr__(name: str) -> Backend:
    if name.replace("_", "-") not in _NAMES or "-" in name:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return get(name)


def __dir__() -> list[str]:
    return sorted([*globals(), *(name.replace("-", "_") for name in _NAMES)])


class _Package(ModuleType):
    """Importing ``pvops.backends.xen`` leaves the backend, not its module, as this package's attribute ``xen``."""

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, ModuleType) and name.replace("_", "-") in _NAMES:
            value = value.backend
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
