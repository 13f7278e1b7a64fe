"""The ordered writes of a boot, each with its reason: plans, their explanation, and two of them compared."""

from __future__ import annotations

from pvops.plan.plan import Plan
from pvops.plan.writes import Write

__all__ = ["Plan", "Write"]
