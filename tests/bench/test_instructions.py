"""No job takes a tenth more instructions than were recorded."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest

from bench import instructions
from pvops import _core

#: Times the recorded count.
MOST = 1.1


def _recorded() -> Any:
    return json.loads(instructions.RECORD.read_text())


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Job → instructions, now."""
    if shutil.which("valgrind") is None:
        pytest.skip("valgrind is missing (`apt install valgrind`)")
    if ", release," not in _core.__build__:
        pytest.skip("the core is not optimised")
    if _recorded()["interpreter"] != instructions.interpreter():
        pytest.skip(f"recorded under {_recorded()['interpreter']}, this is {instructions.interpreter()}")
    return instructions.counted(tmp_path_factory.mktemp("instructions"))


@pytest.mark.parametrize("job", instructions.JOBS)
def test_a_job_takes_no_more_instructions_than_recorded(job: str, counts: dict[str, int]) -> None:
    recorded = _recorded()["instructions"][job]
    assert counts[job] <= MOST * recorded, (
        f"{job}: {counts[job]:,} instructions, {recorded:,} recorded; where that is meant: "
        "python tests/bench/instructions.py"
    )


def test_every_job_is_recorded() -> None:
    assert _recorded()["instructions"].keys() == instructions.JOBS.keys()
