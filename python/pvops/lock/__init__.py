"""The locks measured, their protocols model-checked, and virtual CPUs that share them simulated."""

from __future__ import annotations

from pvops.lock.check import check

__all__ = ["check"]
