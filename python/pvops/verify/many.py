"""Many memories of one kernel, each judged in some process, and all of them in the order given.

A process that dies takes the dumps with it that it and its fellows had in hand. Each of those is judged once more: none
is lost, none is given twice. A dump whose process dies again when it is all it has to do is given as an error.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from functools import lru_cache

import pvops._core as _core
from pvops.cpus import usable_cpus
from pvops.errors import DumpError, Error, OpsError
from pvops.image.kernel_image import KernelImage
from pvops.processes import pool
from pvops.tuples import NamedTuple
from pvops.types_only import Generic, TypeVar
from pvops.verify.judged import check_jobs, check_owners, verify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.machine.machine import Machine
    from pvops.verify.report import Report

T = TypeVar("T")

#: How many objects such a process makes between two searches for garbage.
_OBJECTS = 50_000


class _Question(NamedTuple, Generic[T]):
    """What is the same for all memories; ``made`` makes of a report what crosses processes, and crosses them too."""

    kernel: str
    machine: Machine | None
    allow: tuple[str, ...]
    jobs: int | None
    made: Callable[[Report], T]


def verify_many(
    kernel: KernelImage,
    sources: Iterable[str | os.PathLike[str]] | str | os.PathLike[str],
    *,
    executor: Executor | None = None,
    machine: Machine | None = None,
    allow: Iterable[str] = (),
    jobs: int | None = None,
) -> Iterator[tuple[str, Report | Error]]:
    """See `pvops.kernel.Kernel.verify_many`."""
    return made_of_many(kernel, sources, _report, executor=executor, machine=machine, allow=allow, jobs=jobs)


def made_of_many(
    kernel: KernelImage,
    sources: Iterable[str | os.PathLike[str]] | str | os.PathLike[str],
    made: Callable[[Report], T],
    *,
    executor: Executor | None = None,
    machine: Machine | None = None,
    allow: Iterable[str] = (),
    jobs: int | None = None,
) -> Iterator[tuple[str, T | Error]]:
    """As `verify_many`, with what ``made`` makes of each report in the process that judged it: a report is large."""
    if kernel.path is None:
        raise OpsError(f"{kernel.name}: other processes open the kernel by its path; this one has none")
    if not os.path.isfile(kernel.path):
        raise OpsError(f"{kernel.name}: other processes open the kernel by its path, where there is none any more")
    question = _Question(kernel.path, machine, (allow,) if isinstance(allow, str) else tuple(allow), jobs, made)
    check_owners(question.allow)
    check_jobs(jobs)
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise TypeError(f"an executor of concurrent.futures is wanted, not {type(executor).__name__}")
    left = [os.fspath(one) for one in ((sources,) if isinstance(sources, str | os.PathLike) else sources)]
    if executor is not None:
        left = yield from _spread(executor, question, left)
    while left:
        with _processes(min(len(left), jobs or len(usable_cpus()))) as own:
            left = yield from _spread(own, question, left)


def _report(report: Report) -> Report:
    return report


def _spread(
    executor: Executor, question: _Question[T], sources: list[str]
) -> Generator[tuple[str, T | Error], None, list[str]]:
    """Judges memories in an executor; returns those that are left when it breaks.

    Those whose turn has not come when nobody asks for more are not judged.
    """
    futures: list[Future[T | Error]] = []
    try:
        try:
            futures += [executor.submit(_one, question, os.path.abspath(source)) for source in sources]
        except BrokenExecutor:
            return sources
        for done, (source, future) in enumerate(zip(sources, futures, strict=True), 1):
            try:
                result = future.result()
            except BrokenExecutor:
                # Which of those in hand it died of is not told: the first is tried alone, the others anew.
                again = _alone(question, source)
                yield source, again
                return sources[done:]
            except Exception as died:  # Each executor has its own: Dask's KilledWorker, for one.
                again = _alone(question, source, f"{type(died).__name__}: {died}")
                yield source, again
            else:
                yield source, result
        return []
    finally:
        for future in futures:
            future.cancel()


def _alone(question: _Question[T], source: str, why: str = "") -> T | Error:
    """Judges a memory in a process of its own."""
    try:
        with _processes(1) as own:
            return own.submit(_one, question, os.path.abspath(source)).result()
    except BrokenExecutor:
        before = f" ({why})" if why else ""
        return DumpError(f"{source}: the process that judged it died twice{before}", file=source)


def _processes(count: int) -> Executor:
    # Forking a process with threads is asking for a deadlock.
    return pool(count, method="spawn", begin=_begin)


def _begin() -> None:
    """Begins a process that does nothing else: a report's thousands of objects are no garbage until all of them are."""
    import gc

    gc.set_threshold(_OBJECTS, *gc.get_threshold()[1:])


def _one(question: _Question[T], source: str) -> T | Error:
    """One memory, in whatever process; what is wrong with it is a result as well."""
    try:
        report = verify(
            _opened(question.kernel), source, machine=question.machine, allow=question.allow, jobs=question.jobs
        )
    except Error as error:
        return error
    return question.made(report)


@lru_cache(maxsize=2)
def _opened(path: str) -> KernelImage:
    """A process opens a kernel once, and so makes its tables once."""
    return KernelImage(_core.Image.open(path))
