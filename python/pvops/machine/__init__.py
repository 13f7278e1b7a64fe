"""What a kernel boots on: `Machine`, from a bundle of facts, JSON, TOML, a preset, or this host."""

from __future__ import annotations

from pvops.machine.machine import LIMIT, Machine, Registers

__all__ = ["LIMIT", "Machine", "Registers"]
