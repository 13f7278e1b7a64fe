"""docs/pvops-against-alternatives.md says what the kernels say."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from kernels.given import given

pytestmark = pytest.mark.kernels

DOCS = Path(__file__).parents[2] / "docs"


def test_tables_are_current(kernels_root: Path) -> None:
    script = runpy.run_path(str(DOCS / "make_pvops_against_alternatives.py"))
    for release in script["RELEASES"].values():
        given(f"kernels/vmlinuz-{release}")
        for mode in script["MODES"]:
            given(f"boots/{release}~{mode}.facts")
    page = (DOCS / "pvops-against-alternatives.md").read_text()
    made = script["current"](page, kernels_root)
    assert page == made, "run: python docs/make_pvops_against_alternatives.py"
