"""The table of the benchmark suite, from rows that are made up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHES = Path(__file__).parents[2] / "benches"


@pytest.fixture
def suite(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module ``benches/suite.py``."""
    import importlib

    monkeypatch.syspath_prepend(str(BENCHES))
    return importlib.import_module("suite")


def test_each_other_figure_of_a_job_stands_beside_ours_with_the_ratio(suite: ModuleType) -> None:
    rows = [
        suite.Row("list", "pvops", 0.002, "ours"),
        suite.Row("list", "pyelftools", 0.02, "peer"),
        suite.Row("list", "read the file", 0.001, "limit"),
        suite.Row("alone", "pvops", 3e-7, "ours"),
    ]
    found = suite.pairs(rows)
    assert [pair.ratio for pair in found] == [pytest.approx(0.1), pytest.approx(2), None]
    lines = suite.table(found, {("list", "pvops"): 0.001})
    assert lines[0] == ["list: pvops", "2 ms", "pyelftools", "20 ms", "0.1", "+100%"]
    assert lines[1][2] == "read the file (limit)"
    assert lines[2] == ["alone: pvops", "300 ns", "", "", "", "new"]
    page = suite.page({"cpu": "a <CPU>", "date": "today", "python": "3"}, [suite.HEADINGS, *lines], found)
    assert page.count("<rect") == 2
    assert "a &lt;CPU&gt;" in page


def test_what_criterion_wrote_is_read_and_what_is_older_is_not(suite: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "group" / "pvops_ it" / "new"
    folder.mkdir(parents=True)
    about = {"group_id": "group", "function_id": "pvops: it", "value_str": None}
    (folder / "benchmark.json").write_text(json.dumps(about))
    (folder / "estimates.json").write_text(json.dumps({"median": {"point_estimate": 1500.0}}))
    assert list(suite.criterion(tmp_path, 0)) == [suite.Row("group", "pvops: it", 1.5e-6, "ours")]
    assert list(suite.criterion(tmp_path, (folder / "estimates.json").stat().st_mtime + 1)) == []
    assert [suite.role(name) for name in ("pvops", "limit: read", "xz -dc")] == ["ours", "limit", "peer"]


def test_benchmarks_are_found_by_looking() -> None:
    done = subprocess.run([sys.executable, BENCHES / "suite.py", "nonsense"], capture_output=True, text=True)
    assert done.returncode != 0
    for path in BENCHES.iterdir():
        if path.suffix in (".rs", ".py") and path.name != "suite.py":
            assert path.name in done.stderr
