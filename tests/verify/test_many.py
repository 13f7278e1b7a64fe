"""Many memories judged at once: each is given once, in order, whatever becomes of the processes that judge them."""

from __future__ import annotations

import os
import signal
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

import pvops
from pvops.errors import DumpError, Error, InputError, OpsError
from pvops.kernel import Kernel
from pvops.verify.report import Report

#: Every so many dumps one is changed, and one is no dump at all.
CHANGED, NOISE = 7, 11


@pytest.fixture(scope="module")
def kernel(sample_kernel: Path) -> Kernel:
    return pvops.open(sample_kernel)


def dumps(kernel: Kernel, folder: Path, count: int) -> list[Path]:
    """Texts of the sample kernel, as built but for what is changed."""
    start, size = next((address, size) for name, address, size, _ in kernel.image.sections() if name == ".text")
    text = kernel.image.read(start, size)
    assert text is not None
    hooked = bytearray(text)
    hooked[size // 2 : size // 2 + 4] = b"hook"
    paths = []
    for number in range(count):
        path = folder / f"{number:03}"
        path.write_bytes(b"noise" if number % NOISE == 0 else hooked if number % CHANGED == 0 else text)
        paths.append(path)
    return paths


def check(kernel: Kernel, paths: list[Path], found: list[tuple[str, Report | Error]]) -> None:
    """All of them, in order, each judged as it is by itself."""
    assert [path for path, _ in found] == [str(path) for path in paths]
    plain = kernel.verify(paths[1])
    changed = kernel.verify(paths[CHANGED])
    assert changed.wrong_bytes > plain.wrong_bytes
    for number, (_, result) in enumerate(found):
        if number % NOISE == 0:
            assert isinstance(result, DumpError)
        else:
            assert isinstance(result, Report)
            expected = changed if number % CHANGED == 0 else plain
            assert result.wrong_bytes == expected.wrong_bytes, number


def test_processes_of_this_machine(kernel: Kernel, tmp_path: Path) -> None:
    paths = dumps(kernel, tmp_path, 30)
    check(kernel, paths, list(kernel.verify_many(paths)))


def test_a_machine_is_meant_by_what_verify_takes(kernel: Kernel, tmp_path: Path) -> None:
    [dump] = dumps(kernel, tmp_path, 2)[1:]
    for machine in ("intel-haswell", pvops.Machine.load("intel-haswell"), "baseline", None):
        [(_, report)] = kernel.verify_many([dump], machine=machine)
        assert isinstance(report, Report)
        assert report.to_dict() == kernel.verify(dump, machine=machine).to_dict()
    with pytest.raises(InputError, match="did you mean intel-haswell"):
        kernel.verify_many([dump], machine="intel-hasswell")


def test_what_nobody_asks_for_is_not_judged(kernel: Kernel, tmp_path: Path) -> None:
    begun = []

    class Slow(ThreadPoolExecutor):
        def submit(self, *work: Any, **named: Any) -> Future[Any]:
            begun.append(super().submit(*work, **named))
            return begun[-1]

    paths = dumps(kernel, tmp_path, 200)
    with Slow(1) as executor:
        results = kernel.verify_many(paths, executor=executor)
        next(iter(results))
        results.close()  # type: ignore[attr-defined]
    assert len(begun) == len(paths)
    assert any(judged.cancelled() for judged in begun)


def test_a_kernel_whose_path_is_no_text_is_opened_by_it(kernel: Kernel, sample_kernel: Path, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/vmlinux\xff"))
    path.write_bytes(sample_kernel.read_bytes())
    odd = pvops.open(path)
    dump = dumps(kernel, tmp_path, 2)[1]
    [(_, report)] = odd.verify_many([dump])
    assert isinstance(report, Report)
    assert report.wrong_bytes == kernel.verify(dump).wrong_bytes
    path.unlink()
    with pytest.raises(OpsError, match="where there is none any more"):
        list(odd.verify_many([dump]))
    with pytest.raises(OpsError, match="this one has none"):
        list(pvops.open(sample_kernel.read_bytes()).verify_many([dump]))


def test_dumps_of_a_process_that_died_are_judged_again(kernel: Kernel, tmp_path: Path) -> None:
    paths = dumps(kernel, tmp_path, 60)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        victim = executor.submit(os.getpid).result()
        found: list[tuple[str, Report | Error]] = []
        for result in kernel.verify_many(paths, executor=executor):
            if not found:
                os.kill(victim, signal.SIGKILL)
            found.append(result)
    check(kernel, paths, found)


def test_a_dump_that_processes_die_of_is_an_error(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pvops.verify import many

    paths = dumps(kernel, tmp_path, 4)
    monkeypatch.setattr(many, "_one", judged_or_dead)
    found = dict(kernel.verify_many(paths))
    assert "the process that judged it died twice" in str(found[str(paths[2])])
    assert all(isinstance(found[str(path)], Report) for path in (paths[1], paths[3]))


def judged_or_dead(question: object, source: str) -> Report | Error:
    """Judges a memory, but for one, of which the process dies."""
    from pvops.verify import many

    if source.endswith("002"):
        os.kill(os.getpid(), signal.SIGKILL)
    return many._one(question, source)  # type: ignore[arg-type]


def test_200_dumps_on_a_dask_cluster_that_loses_a_worker(kernel: Kernel, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    paths = dumps(kernel, tmp_path, 200)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        victim = next(iter(client.run(os.getpid).values()))
        found: list[tuple[str, Report | Error]] = []
        for result in kernel.verify_many(paths, executor=client.get_executor()):
            if len(found) == 5:
                os.kill(victim, signal.SIGKILL)
            found.append(result)
    check(kernel, paths, found)
