"""docs/supported-kernels.md lists what the eras hold for, and nothing lies between them."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from pvops import eras

DOCS = Path(__file__).parents[2] / "docs"

#: Every minor release of x86 kernels with paravirt ops.
RELEASES = [
    *((2, 6, n) for n in range(20, 40)),
    *((3, n) for n in range(20)),
    *((4, n) for n in range(21)),
    *((5, n) for n in range(20)),
    *((6, n) for n in range(20)),
    *((7, n) for n in range(4)),
]


def test_the_page_is_current() -> None:
    page = (DOCS / "supported-kernels.md").read_text()
    made = runpy.run_path(str(DOCS / "make_supported_kernels.py"))["current"](page)
    assert page == made, "run: python docs/make_supported_kernels.py"


@pytest.mark.parametrize("version", RELEASES, ids=str)
def test_every_release_has_an_era(version: eras.Version) -> None:
    name = eras.of_version(version)
    assert name is not None
    found = eras.era(name)
    assert found.name == name
    assert found.passes or version < (2, 6, 24)


def test_eras_are_listed_oldest_first() -> None:
    firsts = [listed.first for listed in eras.ERAS if listed.first is not None]
    assert firsts == sorted(firsts)


@pytest.mark.parametrize(
    ("era", "words"),
    [("4.3", 95), ("4.12", 94), ("4.14", 88), ("4.18-el8", 96), ("4.20", 89), ("5.4", 87), ("5.13", 80), ("6.1", 84)],
)
def test_tables_are_as_long_as_their_kernels_had_them(era: str, words: int) -> None:
    """On x86-64, with the configuration that is usual."""
    found = eras.era(era)
    assert found.template(found.default_config(64)).size == 8 * words
