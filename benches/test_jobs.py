"""The jobs of the scripts of this folder under pytest-benchmark: its statistics, saved runs and histograms.

    PVOPS_KERNELS=… pytest benches [-k rewrite] [--benchmark-autosave] [--benchmark-compare] [--benchmark-histogram]

The suite itself does not measure so. pytest-benchmark times one thing to its end and then the next, so what else the
machine does meanwhile falls on one of them, and a ratio is of two different minutes; `support.rounds` goes round all of
a job in turn, and its ratios hold on a busy machine too. Here each job is a group, timed by the job's own clock.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # where the scripts have `support`

from support.rounds import SLOW, Job  # noqa: E402

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

#: Seconds. What takes longer is a round by itself.
BRIEF = 1e-3
#: The jobs' files; gone when pytest is.
FOLDER = tempfile.TemporaryDirectory()


def scripts() -> Iterator[Path]:
    """What of this folder has jobs, as the suite finds it."""
    return (path for path in sorted(HERE.glob("*.py")) if path.stem not in ("suite", Path(__file__).stem))


def jobs() -> Iterator[tuple[str, Job]]:
    """Each script's jobs, with its name."""
    for path in scripts():
        # By its path: the names of some are those of other modules.
        spec = importlib.util.spec_from_file_location(f"benches_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        script = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = script
        spec.loader.exec_module(script)
        folder = Path(FOLDER.name, path.stem)
        folder.mkdir(exist_ok=True)
        for job in script.jobs(folder):
            yield path.stem, job


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each run of each job; the answers are compared in a job's first."""
    cases = []
    for script, job in jobs():
        marks = pytest.mark.benchmark(group=job.title, timer=job.clock)
        for turn, (name, run) in enumerate(job.runs.items()):
            check = None if turn else job.check
            cases.append(pytest.param(job, run, check, marks=marks, id=f"{script}: {job.title}: {name}"))
    metafunc.parametrize(("job", "run", "check"), cases)


def test_job(
    benchmark: BenchmarkFixture, job: Job, run: Callable[[], object], check: Callable[[], None] | None
) -> None:
    if check is not None:
        check()
    began = job.clock()
    run()
    took = job.clock() - began
    if took > BRIEF:
        benchmark.pedantic(run, rounds=max(1, min(20, int(SLOW / took))))  # type: ignore[no-untyped-call]
    else:
        benchmark(run)  # which finds out how many make up a round; a clock of ended commands cannot tell it
