"""docs/why-your-spinlock-calls-the-hypervisor.md says what simulations say."""

from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_tables_and_pictures_are_current() -> None:
    script = runpy.run_path(str(DOCS / "make_why_your_spinlock_calls_the_hypervisor.py"))
    page = (DOCS / "why-your-spinlock-calls-the-hypervisor.md").read_text()
    found = script["made"]()
    told = "run: python docs/make_why_your_spinlock_calls_the_hypervisor.py"
    assert page == script["filled"](page, found.tables), told
    assert script["stale_pictures"](found.pictures) == [], told
    for name in found.pictures:
        assert f"(pictures/{name}.svg)" in page
