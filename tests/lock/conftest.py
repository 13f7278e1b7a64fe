"""What the tests of the locks share."""

from __future__ import annotations

import pytest

import pvops
from lock.kinds import Lock


@pytest.fixture(params=[pvops.TicketLock, pvops.HybridLock])
def make(request: pytest.FixtureRequest) -> type[Lock]:
    """Both classes in turn."""
    kind: type[Lock] = request.param
    return kind
