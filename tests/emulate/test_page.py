"""docs/running-a-guest.md says what runs say."""

from __future__ import annotations

import doctest
import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_tables_are_current() -> None:
    page = (DOCS / "running-a-guest.md").read_text()
    made = runpy.run_path(str(DOCS / "make_running_a_guest.py"))["current"](page)
    assert page == made, "run: python docs/make_running_a_guest.py"


def test_examples_work() -> None:
    text = (DOCS / "running-a-guest.md").read_text()
    examples = doctest.DocTestParser().get_doctest(text, {}, "running-a-guest.md", None, None)
    results = doctest.DocTestRunner().run(examples)
    assert results.attempted > 15
    assert results.failed == 0
