"""Processes that work for this one, and end with it, however it ends."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def pool(count: int, *, method: str | None = None, begin: Callable[[], object] | None = None) -> ProcessPoolExecutor:
    """Processes for work, as an executor.

    An interrupt from a terminal goes to all of them: they end by it in silence, and what it means is said here. Where
    this process is killed, which tells nobody, each of them ends by itself.

    Args:
        count: how many.
        method: how they are started; as this version of Python does where none is named.
        begin: what each does first.
    """
    import multiprocessing

    context = multiprocessing.get_context(method)
    return ProcessPoolExecutor(count, mp_context=context, initializer=_begin, initargs=(begin,))


def _begin(begin: Callable[[], object] | None) -> None:
    import _thread
    import signal

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _thread.start_new_thread(_end_with_parent, ())
    if begin is not None:
        begin()


def _end_with_parent() -> None:
    """Waits for the process that this one works for to end. A fork holds what its elder brothers wait for as well, and
    lets go of it when it ends: the youngest is the first."""
    import multiprocessing

    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
