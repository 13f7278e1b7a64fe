"""What the historical patching code itself produced, line by line (``pytest -m golden``)."""

from __future__ import annotations

import json

import pytest

from golden.comparers import COMPARERS
from golden.data import Line

pytestmark = pytest.mark.golden

#: Disagreements shown per kind.
SHOWN = 10


@pytest.mark.parametrize("kind", COMPARERS)
def test_reproduces_what_the_historical_code_produced(
    kind: str, goldens: dict[str, list[Line]], report: list[str]
) -> None:
    compare = COMPARERS[kind]
    compared = passed_over = 0
    wrong: list[str] = []
    for line in goldens.get(kind, []):
        ours = compare(line)
        if ours is None:
            passed_over += 1
            continue
        compared += 1
        theirs = {field: line[field] for field in ours}
        if ours != theirs:
            wrong.append(f"{json.dumps(line)}\n    ours   {json.dumps(ours)}\n    theirs {json.dumps(theirs)}")
    report.append(f"golden: {kind} {compared} compared, {len(wrong)} disagree")
    if passed_over:
        report.append(f"not compared: {kind} {passed_over}")
    assert not wrong, f"{len(wrong)} of {compared} {kind} lines disagree\n" + "\n".join(wrong[:SHOWN])


def test_says_which_kinds_it_does_not_compare(goldens: dict[str, list[Line]], report: list[str]) -> None:
    for kind in sorted(goldens.keys() - COMPARERS.keys()):
        report.append(f"not compared: {kind} {len(goldens[kind])}")
