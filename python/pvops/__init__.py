"""pvops: what Linux's paravirt patching does to kernel text, reproduced offline, byte for byte.

>>> import pvops
>>> kernel = pvops.open("vmlinux-sample")  # as `python -m pvops.sample vmlinux-sample` writes it, or a vmlinuz
>>> kernel
<Kernel 6.1.0-pvops-sample x86_64>
>>> kernel.sites.count("op").most_common(1)
[('pv_irq_ops.irq_enable', 3)]
>>> plan = kernel.plan("kvm", machine="intel-haswell")
>>> bool(kernel.verify(plan.apply()))
True

Everything here is imported when first asked for, so that a command pays for what it uses and no more; ``__init__.pyi``
tells type checkers and editors what there is.
"""

from __future__ import annotations

from pvops import _moved, display

__all__ = [
    "Backend",
    "Error",
    "HybridLock",
    "Kernel",
    "Machine",
    "Plan",
    "Report",
    "Sites",
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
    "Report": "verify.report",
    "Sites": "image.sites",
    "Backend": "backends.backend",
    "HybridLock": "_core",
    "TicketLock": "_core",
    "__version__": "_core",
}


_moved.install()


def _show(shown: object, way: str, /, **options: object) -> str:
    from pvops.render import show

    return show(shown, way, **options)


display.register(_show)


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name in _MODULES:
        return import_module(f"pvops.{_MODULES[name]}")
    if name in _HOMES:
        value = globals()[name] = getattr(import_module(f"pvops.{_HOMES[name]}"), name)
        return value
    raise AttributeError(f"module 'pvops' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
