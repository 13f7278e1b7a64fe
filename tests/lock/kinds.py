"""The locks that Python has, and the ways in which they wait."""

from __future__ import annotations

import pvops

Lock = pvops.TicketLock | pvops.HybridLock
WAITERS = ("native", "park", "futex", "event-channel", "halt")
