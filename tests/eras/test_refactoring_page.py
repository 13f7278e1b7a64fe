"""docs/refactoring-2007.md says what the eras say."""

from __future__ import annotations

import doctest
import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_tables_are_current() -> None:
    page = (DOCS / "refactoring-2007.md").read_text()
    made = runpy.run_path(str(DOCS / "make_refactoring_2007.py"))["current"](page)
    assert page == made, "run: python docs/make_refactoring_2007.py"


def test_examples_work() -> None:
    text = (DOCS / "refactoring-2007.md").read_text().replace("```", "")
    examples = doctest.DocTestParser().get_doctest(text, {}, "refactoring-2007.md", None, None)
    results = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL).run(examples)
    assert results.attempted > 5
    assert results.failed == 0
