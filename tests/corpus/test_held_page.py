"""docs/kernels-held-to.md is what its data make, and takes what `pvops corpus` finds."""

from __future__ import annotations

import copy
import runpy
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"
MADE = runpy.run_path(str(DOCS / "make_kernels_held_to.py"))


def test_the_page_is_current() -> None:
    page = (DOCS / "kernels-held-to.md").read_text()
    assert page == MADE["current"](page, MADE["load"]()), "run: python docs/make_kernels_held_to.py"


def test_the_data_name_no_file_of_anyone() -> None:
    assert not any(word in (DOCS / "kernels-held-to.json").read_text() for word in ("/", "vmlinuz", ".img"))


BOOT: dict[str, Any] = {
    "name": "made~kvm-real-two",
    "compared": 1000,
    "wrong": {"alternatives": 3, "none": 1},
    "guesses_by": {
        "jump_labels": {"sites": 10, "wrong": 1, "wrong_bytes": 5, "unlisted": 0},
        "cfi": {"sites": 90, "wrong": 90, "wrong_bytes": 360, "unlisted": 0},
    },
    "unexplained": 2,
    "unexplained_told": 1,
    "refused": None,
}
KERNEL: dict[str, Any] = {
    "file": "vmlinuz-made",
    "release": "6.12.1-made",
    "bits": 64,
    "options": ["PARAVIRT", "SMP", "KALLSYMS"],
    "compiler": "gcc",
    "refused": None,
    "sites": {"alternatives": 5},
    "boots": [BOOT],
}


def test_a_kernel_is_taken_in_and_a_later_day_replaces_its_boot() -> None:
    data = MADE["taken"]([], {"kernels": [KERNEL]}, "2026-01-01")
    *_, line = MADE["table"](data)
    built = "gcc, PARAVIRT, SMP, functions' symbols"
    assert line == f"| 6.12.1-made | 64 | {built} | KVM | two | 1,000 | 4 | 9 of 10 | 3 | 2026-01-01 |"
    better = copy.deepcopy(KERNEL)
    better["boots"][0] |= {"wrong": {}, "unexplained": 0, "unexplained_told": 0}
    other = copy.deepcopy(KERNEL)
    other["boots"][0] |= {"name": "made~native-one"}
    data = MADE["taken"](data, {"kernels": [better]}, "2026-01-02")
    data = MADE["taken"](data, {"kernels": [other]}, "2026-01-03")
    first, second = MADE["table"](data)[2:]
    assert "| KVM | two | 1,000 | 0 | 9 of 10 | 0 | 2026-01-02 |" in first
    assert "| none | one | 1,000 | 4 | 9 of 10 | 3 | 2026-01-03 |" in second
    assert MADE["summary"](data).startswith("1 kernels of 1 releases, 2 boots: 2,000 bytes of text compared, 4 of them")


def test_a_refused_kernel_is_a_line_of_its_own() -> None:
    refused = KERNEL | {"release": None, "bits": None, "refused": "payload: is cut", "sites": {}, "boots": []}
    *_, line = MADE["table"](MADE["taken"]([], {"kernels": [refused]}, "2026-01-01"))
    assert "vmlinuz-made" in line
    assert "refused: payload: is cut" in line
