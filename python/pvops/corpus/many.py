"""Many kernels, each judged in some process, and all of them in the order given."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import BrokenExecutor

from pvops.corpus.judged import judge
from pvops.corpus.results import KernelResult
from pvops.processes import pool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.corpus.files import Folder, KernelFiles


def judge_all(folder: Folder, *, jobs: int | None = None) -> Iterator[KernelResult]:
    """Judges every kernel of a folder.

    Args:
        folder: the folder.
        jobs: processes at once; as many as this process may use CPUs where none is given. With 1 all is done here.
    """
    jobs = min(jobs or len(os.sched_getaffinity(0)), len(folder.kernels))
    if jobs <= 1:
        yield from map(judge, folder.kernels)
        return
    left = list(folder.kernels)
    while left:
        done = 0
        try:
            for result in _spread(left, jobs):
                yield result
                done += 1
        except BrokenExecutor:
            # One of those in hand killed its process: the next in order is judged alone, so that it is known by name.
            yield _alone(left[done])
            done += 1
        left = left[done:]


def _spread(kernels: Iterable[KernelFiles], jobs: int) -> Iterator[KernelResult]:
    with pool(jobs) as own:
        try:
            yield from own.map(judge, kernels)
        finally:
            own.shutdown(cancel_futures=True)


def _alone(files: KernelFiles) -> KernelResult:
    try:
        return next(_spread([files], 1))
    except BrokenExecutor:
        why = "the process that read it died"
        return KernelResult(os.path.basename(files.path), None, None, (), None, None, why, {}, ())
