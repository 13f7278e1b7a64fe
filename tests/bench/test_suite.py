"""The benchmark suite: what it finds, and its table and page, from rows that are made up."""

from __future__ import annotations

import importlib
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
    monkeypatch.syspath_prepend(str(BENCHES))
    return importlib.import_module("suite")


@pytest.fixture
def figures(suite: ModuleType) -> ModuleType:
    """The module ``benches/support/figures.py``."""
    return importlib.import_module("support.figures")


def run_of(*rows: tuple[str, str, float, str], figures: ModuleType) -> list[tuple[object, ...]]:
    return [figures.Row(*row) for row in rows]


def test_each_other_figure_of_a_job_stands_beside_ours_with_the_ratio(suite: ModuleType, figures: ModuleType) -> None:
    rows = [
        ("list", "pvops", 0.002, "ours"),
        ("list", "pyelftools", 0.02, "peer"),
        ("list", "read the file", 0.001, "limit"),
        ("alone", "pvops", 3e-7, "ours"),
    ]
    found = figures.pairs(run_of(*rows, figures=figures))
    assert [pair.ratio for pair in found] == [pytest.approx(0.1), pytest.approx(2), None]
    assert suite.table(found) == [
        ["list: pvops", "2 ms", "pyelftools", "20 ms", "0.1"],
        ["list: pvops", "2 ms", "read the file (limit)", "1 ms", "2"],
        ["alone: pvops", "300 ns", "", "", ""],
    ]


def test_a_later_run_says_how_ours_has_changed_and_what_the_ratio_was(suite: ModuleType, figures: ModuleType) -> None:
    now = [("list", "pvops", 0.002, "ours"), ("list", "xz", 0.01, "peer"), ("new", "pvops", 1.0, "ours")]
    before = [("list", "pvops", 0.001, "ours"), ("list", "xz", 0.002, "peer")]
    since = figures.Since(run_of(*before, figures=figures))
    lines = suite.table(figures.pairs(run_of(*now, figures=figures)), since)
    assert [line[4:] for line in lines] == [["0.2", "+100%", "0.5"], ["", "new", ""]]


def test_what_got_slower_is_told_by_the_ratio_where_there_is_one(suite: ModuleType, figures: ModuleType) -> None:
    before = [("list", "pvops", 1.0, "ours"), ("list", "xz", 1.0, "peer"), ("alone", "pvops", 1.0, "ours")]
    since = figures.Since(run_of(*before, figures=figures))
    # All of it takes twice as long on a machine that does other things too: of two that are compared neither is slower.
    busy = [("list", "pvops", 2.0, "ours"), ("list", "xz", 2.0, "peer"), ("alone", "pvops", 1.05, "ours")]
    assert suite.news(figures.pairs(run_of(*busy, figures=figures)), since) == ["slower: nothing by more than a tenth"]
    now = [("list", "pvops", 3.0, "ours"), ("list", "xz", 2.0, "peer"), ("alone", "pvops", 1.2, "ours")]
    assert suite.news(figures.pairs(run_of(*now, figures=figures)), since) == [
        "slower: list: pvops, beside xz: +50%",
        "slower: alone: pvops: +20%",
    ]


def test_the_page_has_a_bar_for_each_comparison_and_says_what_is_missing(
    suite: ModuleType, figures: ModuleType
) -> None:
    rows = [
        ("list <sites>", "pvops", 0.002, "ours"),
        ("list <sites>", "objdump", 8.0, "peer"),
        ("list <sites>", "read the file", 0.001, "limit"),
        ("alone", "pvops", 3e-7, "ours"),
    ]
    found = figures.pairs(run_of(*rows, figures=figures))
    run = {"cpu": "a <CPU>", "date": "today", "python": "3", "load": 0.5, "missing": ["lz4 & more"]}
    page = suite.page(run, found, None)
    assert page.count("<rect") == 2
    assert all(shown in page for shown in ("a &lt;CPU&gt;", "list &lt;sites&gt;", "lz4 &amp; more", "300 ns"))
    marked = suite.page(run, found, figures.Since(run_of(*rows, figures=figures)))
    assert marked.count('class="before"') == 2


@pytest.mark.parametrize(
    "content", ["", "{}", '{"schema": "other/1"}', '{"schema": "pvops.benchmarks/1", "rows": [1]}']
)
def test_what_is_no_saved_run_is_said_to_be_none(figures: ModuleType, tmp_path: Path, content: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(content)
    with pytest.raises(SystemExit, match=r"run\.json: no saved run"):
        figures.saved(path)


def test_what_a_benchmark_says_is_missing_is_listed(suite: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    run = suite.Suite()
    script = "print('missing: lz4'); print('missing: lz4'); print('not missing: xz'); raise SystemExit(3)"
    run._watch(Path("some.py"), [sys.executable, "-c", script], {})
    assert run.missing == ["some.py: missing: lz4", "some.py: failed with status 3"]
    assert run.failed == ["some.py"]


def test_what_criterion_wrote_is_read_and_what_is_older_is_not(figures: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "group" / "pvops_ it" / "new"
    folder.mkdir(parents=True)
    about = {"group_id": "group", "function_id": "pvops: it", "value_str": None}
    (folder / "benchmark.json").write_text(json.dumps(about))
    (folder / "estimates.json").write_text(json.dumps({"median": {"point_estimate": 1500.0}}))
    assert list(figures.criterion(tmp_path, 0)) == [figures.Row("group", "pvops: it", 1.5e-6, "ours")]
    assert list(figures.criterion(tmp_path, (folder / "estimates.json").stat().st_mtime + 1)) == []
    assert [figures.role(name) for name in ("pvops", "limit: read", "xz -dc")] == ["ours", "limit", "peer"]


def test_benchmarks_are_found_by_looking() -> None:
    done = subprocess.run([sys.executable, BENCHES / "suite.py", "nonsense"], capture_output=True, text=True)
    assert done.returncode != 0
    for path in BENCHES.iterdir():
        if path.suffix in (".rs", ".py") and path.name not in ("suite.py", "test_jobs.py"):
            assert path.name in done.stderr


def test_a_job_is_checked_before_it_is_timed_and_timed_in_turns(
    suite: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rounds = importlib.import_module("support.rounds")
    monkeypatch.setenv("PVOPS_BENCH_ROWS", str(tmp_path / "rows"))
    log: list[str] = []
    clock = iter(range(1000))
    job = rounds.Job(
        "job",
        {"pvops": lambda: log.append("a"), "peer": lambda: log.append("b")},
        {"pvops": "ours", "peer": "peer"},
        clock=lambda: float(next(clock)),
        check=lambda: log.append("check"),
    )
    assert rounds.compare(job, 3) == {"pvops": 1.0, "peer": 1.0}
    assert "".join(log) == "checkababab"
    rows = [json.loads(line) for line in (tmp_path / "rows").read_text().splitlines()]
    assert [(row["name"], row["role"]) for row in rows] == [("pvops", "ours"), ("peer", "peer")]


def test_every_script_gives_pytest_benchmark_its_jobs(suite: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PVOPS_KERNELS", raising=False)
    entry = importlib.import_module("test_jobs")
    found = {path.name for path in suite.benchmarks([]) if path.suffix == ".py"}
    assert {path.name for path in entry.scripts()} == found
    given = dict(entry.jobs())
    assert "startup" in given, "the one that needs nothing"
    assert all(job.runs and set(job.runs) == set(job.roles) for job in given.values())
