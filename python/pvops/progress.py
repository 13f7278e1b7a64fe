"""How far long work is: a line on stderr, on a terminal alone, where it takes over a second, which goes at the end.

A `Bar` says how much of it is done. `Waiting` is for the rest, of which nobody knows how long it takes: a command
begins it, and it is silent while a bar is drawn.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import sys
import time

from pvops.types_only import TypeVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")

#: Nothing is drawn before so many seconds, and then so often.
_PATIENCE, _EVERY = 1.0, 0.1


class Bar:
    """A progress bar. Called with what is done and what there is, it draws; left as a context, it goes.

    >>> from pvops.progress import Bar
    >>> with Bar("comparing") as bar:
    ...     bar(1, 2)
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._next = time.monotonic() + _PATIENCE if sys.stderr.isatty() else float("inf")
        self._drawn = False

    def __call__(self, done: int, total: int) -> None:
        """Draws, where it is time to: `done` of `total`; of a `total` of 0 nothing is known, and `done` is a count."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _EVERY
        if not self._drawn and Waiting.current is not None:
            Waiting.current.pause()
        self._drawn = True
        if total:
            filled = round(30 * min(done / total, 1))
            far = f"{'█' * filled}{'·' * (30 - filled)} {min(done / total, 1):4.0%}"
        else:
            far = f"{done:,}"
        sys.stderr.write(f"\r{self._what} {far}")
        sys.stderr.flush()

    def of(self, items: Iterable[T], total: int = 0) -> Iterator[T]:
        """The items, counted as they are taken; behind the last the bar goes."""
        with self:
            for done, item in enumerate(items):
                self(done, total)
                yield item

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._drawn:
            self._drawn = False
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            if Waiting.current is not None:
                Waiting.current.resume()


class Waiting:
    """Says every second for how long a command has been at work, as long as it says nothing itself.

    >>> from pvops.progress import Waiting
    >>> with Waiting("pvops explain") as waiting:
    ...     waiting.pause()
    """

    #: That of the command that runs.
    current: Waiting | None = None

    def __init__(self, what: str) -> None:
        self._what = what
        self._began = time.monotonic()
        self._lock = _thread.allocate_lock()
        self._ended = self._paused = self._drawn = False

    def pause(self) -> None:
        """Takes the line away: something else is printed."""
        with self._lock:
            self._paused = True
            self._clear()

    def resume(self) -> None:
        """Draws again, when it is time to."""
        self._paused = False

    def end(self) -> None:
        """Takes the line away for good."""
        with self._lock:
            self._ended = True
            self._clear()

    def _clear(self) -> None:
        if self._drawn:
            self._drawn = False
            _draw("\r\x1b[K")

    def _run(self) -> None:
        while not self._ended:
            time.sleep(_PATIENCE)
            with self._lock:
                if not self._ended and not self._paused:
                    self._drawn = True
                    _draw(f"\r{self._what} … {time.monotonic() - self._began:.0f} s")

    def __enter__(self) -> Waiting:
        if sys.stderr.isatty() and Waiting.current is None:
            Waiting.current = self
            os.register_at_fork(after_in_child=self._forget)  # a child has no thread that would give the lock back
            _thread.start_new_thread(self._run, ())
        return self

    def _forget(self) -> None:
        if Waiting.current is self:
            Waiting.current = None

    def __exit__(self, *_: object) -> None:
        self.end()
        self._forget()


def _draw(text: str) -> None:
    """Writes to the terminal at once, without a lock that another thread may hold when the process ends."""
    with contextlib.suppress(OSError, ValueError):
        os.write(sys.stderr.fileno(), text.encode())
