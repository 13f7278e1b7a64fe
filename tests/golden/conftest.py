"""The goldens, parsed once, and the counts at the end of the run."""

from __future__ import annotations

from collections import defaultdict

import pytest

from golden.data import Line, lines
from kernels.given import given

#: Lines of the report, in order.
REPORT = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def goldens() -> dict[str, list[Line]]:
    """All golden lines by kind."""
    by_kind: dict[str, list[Line]] = defaultdict(list)
    for line in lines(given("goldens")):
        by_kind[line["kind"]].append(line)
    return dict(by_kind)


@pytest.fixture
def report(request: pytest.FixtureRequest) -> list[str]:
    """What to print at the end of the run."""
    return request.config.stash.setdefault(REPORT, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(REPORT, []):
        terminalreporter.write_line(line)
