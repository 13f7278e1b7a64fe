"""Guests that execute: a kernel of the time, assembled, patched, and run below several hypervisors (extra ``run``).

::

    from pvops.emulate import GuestImage, shipped, run
    from pvops.emulate.hosts.lguest import Lguest

    image = GuestImage(shipped.program("switch"), "seed")
    result = run(image, Lguest(image))
    print(result.instructions, dict(result.hypercalls), result.final_state)
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.emulate.cpu import Cpu, Limits, Stop
    from pvops.emulate.guest import shipped
    from pvops.emulate.guest.backends import backend
    from pvops.emulate.guest.image import GuestImage
    from pvops.emulate.guest.program import Program
    from pvops.emulate.hosts.host import HostModel
    from pvops.emulate.session import Result, Session, run

_WHERE = {
    "Cpu": "cpu",
    "GuestImage": "guest.image",
    "HostModel": "hosts.host",
    "Limits": "cpu",
    "Program": "guest.program",
    "Result": "session",
    "Session": "session",
    "Stop": "cpu",
    "backend": "guest.backends",
    "run": "session",
    "shipped": "guest",
}

__all__ = [
    "Cpu",
    "GuestImage",
    "HostModel",
    "Limits",
    "Program",
    "Result",
    "Session",
    "Stop",
    "backend",
    "run",
    "shipped",
]


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "shipped":
        return import_module(f"{__name__}.guest.shipped")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
