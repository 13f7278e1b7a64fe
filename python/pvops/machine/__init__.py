"""What a kernel boots on: `Machine`, from a bundle of facts, JSON, TOML, a preset, or this host."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.machine.machine import LIMIT, Machine, Registers

__all__ = ["LIMIT", "Machine", "Registers"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from pvops.machine import machine

        return getattr(machine, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
