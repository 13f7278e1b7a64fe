"""The paravirtual ticket lock."""

from __future__ import annotations

from pvops.lock.check import check

__all__ = ["check"]
