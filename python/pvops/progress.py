"""How far long work is: a line on stderr, on a terminal alone, where it takes over a second, which goes at the end."""

from __future__ import annotations

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
