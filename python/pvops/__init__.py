"""pvops: what Linux's paravirt patching does to kernel text, reproduced offline, byte for byte.

>>> import pvops
>>> kernel = pvops.open("/boot/vmlinuz-6.1.0-56-amd64")       # doctest: +SKIP
>>> kernel.sites.count("op").most_common(3)                    # doctest: +SKIP
>>> plan = kernel.plan(pvops.backends.xen, machine=pvops.Machine.from_facts("guest.facts"))  # doctest: +SKIP

Everything here is imported when first asked for, so that a command pays for what it uses and no more.
"""

from __future__ import annotations

from pvops import _moved, display

TYPE_CHECKING = False  # not typing's: importing it costs a third of what Python itself takes to start
if TYPE_CHECKING:
    from typing import Any

    from pvops import backends, bench, errors
    from pvops import eras as ops
    from pvops._core import HybridLock, TicketLock, __version__
    from pvops.errors import Error
    from pvops.image import memory
    from pvops.kernel import Kernel, open
    from pvops.machine.machine import Machine
    from pvops.plan.plan import Plan

__all__ = [
    "Error",
    "HybridLock",
    "Kernel",
    "Machine",
    "Plan",
    "TicketLock",
    "__version__",
    "backends",
    "bench",
    "errors",
    "memory",
    "open",
    "ops",
]

#: Public name → module.
_MODULES = {
    "backends": "backends",
    "bench": "bench",
    "errors": "errors",
    "memory": "image.memory",
    "ops": "eras",
}
#: Public name → the module that has it.
_HOMES = {
    "Error": "errors",
    "Kernel": "kernel",
    "open": "kernel",
    "Machine": "machine.machine",
    "Plan": "plan.plan",
    "HybridLock": "_core",
    "TicketLock": "_core",
    "__version__": "_core",
}


_moved.install()


def _show(shown: object, way: str, /, **options: object) -> str:
    from pvops.render import show

    return show(shown, way, **options)


display.register(_show)


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _MODULES:
        return import_module(f"pvops.{_MODULES[name]}")
    if name in _HOMES:
        value = globals()[name] = getattr(import_module(f"pvops.{_HOMES[name]}"), name)
        return value
    raise AttributeError(f"module 'pvops' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
