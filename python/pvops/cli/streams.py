"""Standard output that may be closed, full, or read no further.

A reader that has enough (`pvops verify … | head -1`) changes no verdict: what is written from then on goes nowhere, and
the exit status is that of the command. Any other failure is trouble, said in one line.

Text that was read from a file may hold what a terminal obeys: it is shown as escapes. What is written as bytes (an
image, a list of sites) goes as it is.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys

from pvops.progress import Waiting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from pvops.errors import InputError

#: How standard output is named where it is the trouble.
_NAME = "standard output"


class _Output(io.FileIO):
    """Standard output without the errors of a closed pipe; once it has failed, nothing more is written to it."""

    silent = False
    closed_at_start = False
    terminal = False

    def write(self, data: object, /) -> int:
        """Writes bytes, or drops them where nobody reads any more."""
        size = memoryview(data).nbytes  # type: ignore[arg-type]  # io has no type for "a buffer" in 3.11
        if self.silent:
            return size
        if self.terminal and Waiting.current is not None:
            Waiting.current.end()
        try:
            if self.closed_at_start:
                raise OSError(errno.EBADF, "it is closed")
            return super().write(data)  # type: ignore[arg-type]
        except BrokenPipeError:
            self.silent = True
            return size
        except OSError as error:
            self.silent = True
            raise OSError(error.errno, error.strerror, _NAME) from error


#: What a terminal obeys or turns round, but for line ends, tabs, and the colours that are ours.
_OBEYED = "[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]|\x1b(?!\\[[0-9;]*m)"


class _Text(io.TextIOWrapper):
    """Text on standard output, without what a terminal obeys."""

    def write(self, text: str, /) -> int:
        """Writes text."""
        # Printable ASCII, line ends and tabs: most text is no more, and the pattern is not made for it.
        if not (text.isascii() and text.replace("\n", "").replace("\t", "").isprintable()):
            import re

            from pvops.render.terminal import escaped

            text = re.sub(_OBEYED, lambda found: escaped(found[0]), text)
        return super().write(text)


class Stream:
    """Standard output while a command runs."""

    def flushed(self, status: int) -> int:
        """Writes what is still to be written, and gives the command's status."""
        sys.stdout.flush()
        return status


@contextlib.contextmanager
def checked() -> Iterator[Stream]:
    """Has standard output checked; what a test or a notebook put there stays."""
    if sys.stderr is None:  # print() would take standard output instead
        sys.stderr = io.TextIOWrapper(io.FileIO(os.devnull, "w"))
    if sys.stdout is not None and (sys.stdout is not sys.__stdout__ or not isinstance(sys.stdout, io.TextIOWrapper)):
        yield Stream()
        return
    before = sys.stdout
    raw = _Output(os.devnull if before is None else 1, "wb", closefd=before is None)
    raw.closed_at_start = before is None
    raw.terminal = terminal = before is not None and before.isatty()
    encoding = "utf-8" if before is None else before.encoding
    sys.stdout = _Text(io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=terminal)
    if before is not None:
        before.flush()
    try:
        yield Stream()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        raw.silent = True
        if before is not None:
            sys.stdout = before


def standard_input() -> BinaryIO:
    """Standard input, as bytes.

    Raises:
        InputError: it is closed.
    """
    if sys.stdin is None:
        from pvops.errors import InputError

        raise InputError("-: standard input is closed", file="-")
    return sys.stdin.buffer


def error_of(error: OSError) -> InputError:
    """An error of the system as one of ours, with the file it is about, where it is about one."""
    from pvops.errors import InputError

    said = error.strerror or str(error)
    if error.filename is not None:
        return InputError(f"{error.filename}: {said}", file=error.filename)
    if error.errno == errno.ENOENT and _homeless():
        said = "the folder that this runs in is gone, and other processes begin in it"
    return InputError(said)


def _homeless() -> bool:
    """Whether the folder that this runs in is gone."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False
