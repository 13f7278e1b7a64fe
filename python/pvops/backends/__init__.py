"""Backends by name: ``pvops.backends.get("xen-hvm")``, or ``pvops.backends.xen_hvm``.

Each is a module of its own, imported when first asked for, that has the `Backend` under the name ``backend``. Names
have dashes on the command line and underscores in Python.

>>> pvops.backends.names()
('native', 'kvm', 'xen', 'xen-hvm', 'vmware', 'hyperv', 'lguest', 'vmi')
>>> pvops.backends.get("xen-hvm") is pvops.backends.xen_hvm
True
"""

from __future__ import annotations

import sys
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pvops.backends.backend import Backend

    native: Backend
    kvm: Backend
    xen: Backend
    xen_hvm: Backend
    vmware: Backend
    hyperv: Backend

#: Backends that opened images are planned for.
_OF_IMAGES = ("native", "kvm", "xen", "xen-hvm", "vmware", "hyperv")

#: Backends of 2.6 alone, whose modules fill an era's structures by name (`pvops.backends.headers`).
_OF_2_6 = ("lguest", "vmi")
#: How the eras begin that other backends are declared for so too (`pvops.backends.of_2_6`).
_ERAS_OF_2_6 = "2.6."


def names() -> tuple[str, ...]:
    """The names of all backends, as on the command line."""
    return _OF_IMAGES + _OF_2_6


def of_images() -> tuple[str, ...]:
    """The names of the backends that opened images are planned for."""
    return _OF_IMAGES


def check(name: str) -> None:
    """Raises an `OpsError`, which lists all names, where there is no backend of this one for any kernel."""
    from pvops.errors import OpsError, nearest, wanted

    wanted(name, str, "a backend's name")
    if name.replace("_", "-").lower() not in names():
        raise OpsError(f"no backend {name}{nearest(name, names())}; there are {', '.join(names())}")


def get(name: str, era: str | None = None) -> Backend:
    """The backend of a name, with dashes or underscores.

    Args:
        name: the name.
        era: of the image it is for; None for one of 5.10 or later.

    Raises:
        OpsError: there is none of that name (the message lists them), or none for images of that era.
    """
    import copyreg
    from importlib import import_module

    from pvops.errors import OpsError, wanted

    wanted(name, str, "a backend's name")
    dashed = name.replace("_", "-").lower()
    if era is not None and (dashed in _OF_2_6 or (era.startswith(_ERAS_OF_2_6) and dashed != "native")):
        from pvops.backends import of_2_6

        if (declared := of_2_6.get(dashed, era)) is not None:
            return declared
    if dashed in _OF_2_6:
        raise OpsError(f"{dashed} is a backend of 2.6 kernels: see it with `pvops ops --era 2.6.24 --backend {dashed}`")
    check(name)
    found: Backend = import_module(f"{__name__}.{dashed.replace('-', '_')}").backend
    copyreg.pickle(type(found), _reduced)
    return found


def _reduced(backend: Backend) -> tuple[Any, ...]:
    """The package's own cross to other processes by name: conditions are functions, which pickle does not know."""
    if backend.name in _OF_IMAGES and get(backend.name) is backend:
        return get, (backend.name,)
    as_usual = backend.__reduce_ex__(2)
    assert not isinstance(as_usual, str)
    return as_usual


def __getattr__(name: str) -> Backend:
    if name.replace("_", "-") not in _OF_IMAGES or "-" in name:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return get(name)


def __dir__() -> list[str]:
    return sorted([*globals(), *(name.replace("-", "_") for name in of_images())])


class _Package(ModuleType):
    """Importing ``pvops.backends.xen`` leaves the backend, not its module, as this package's attribute ``xen``."""

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, ModuleType) and name.replace("_", "-") in _OF_IMAGES:
            value = value.backend
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
