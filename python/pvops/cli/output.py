"""Printing: JSON documents, rows, and notes for the person at the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence

from pvops.errors import Error, InputError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


#: What was said of the kernel, and is not printed yet: of a command that ends in trouble stderr has one line.
_held: list[str] = []
#: A word of more characters than any path has is no name that a line has room for.
_LONGEST_WORD = 4096


def note(message: str) -> None:
    """A line for the person at the terminal, on stderr, behind those that were held back."""
    release()
    _say(message)


def hold(message: str) -> None:
    """A line that is only worth saying where the command comes to something: `release` prints it, `drop` does not."""
    _held.append(message)


def remark(message: str) -> None:
    """A line beside the text: at once, or behind it where standard output may be full or closed. Trouble is alone."""
    import io
    import stat

    try:
        mode = os.fstat(sys.stdout.fileno()).st_mode
        sure = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or sys.stdout.isatty()
    except io.UnsupportedOperation:  # of a test, or a notebook
        sure = True
    except (OSError, ValueError):
        sure = False
    (note if sure else hold)(message)


def release() -> None:
    """Prints what was held back."""
    for message in _held:
        _say(message)
    drop()


def _say(message: str) -> None:
    """A message on stderr: a line, and as many as it takes where stderr is a terminal."""
    from pvops.progress import Waiting
    from pvops.render.terminal import folded

    if Waiting.current is not None:
        Waiting.current.pause()
    for line in folded([f"pvops: {one_line(message)}"], sys.stderr):
        print(line, file=sys.stderr)
    if Waiting.current is not None:
        Waiting.current.resume()


def drop() -> None:
    """Forgets what was held back."""
    _held.clear()


def one_line(message: str) -> str:
    """A message as one line that cannot drive a terminal, with words that are too long for any name cut."""
    import re

    from pvops.render.terminal import printable

    cut = re.sub(rf"\S{{{_LONGEST_WORD},}}", lambda word: f"{word[0][:60]}… ({len(word[0]):,} characters)", message)
    return printable(cut)


def writable(path: str) -> None:
    """Refuses an output whose folder is missing before the work is done; ``-`` is standard output.

    Raises:
        InputError: as writing it would.
    """
    folder = os.path.dirname(path) or "."
    if path != "-" and not os.path.isdir(folder):
        raise InputError(f"{path}: no folder {folder}", file=path)
    if os.path.isdir(path):
        raise InputError(f"{path}: is a directory", file=path)


def refuse_summary_of_rows(args: argparse.Namespace) -> None:
    """``--summary`` is of text and of the JSON document; rows have none."""
    if args.summary and args.format_ in ("jsonl", "csv"):
        raise UsageError(f"--summary and --{args.format_}: rows have no summary (--json --summary)")


#: The arguments that name files to read, and those that name files to write.
_READ = ("kernel", "memory", "machine", "module", "slide_of", "a", "b", "facts", "config", "guest", "replay")
_WRITTEN = ("output", "html", "save_machine", "plot", "plot_waits", "plot_gantt", "image")


def apart(args: argparse.Namespace) -> None:
    """Refuses to write what is to be read, or two things into one file.

    Raises:
        UsageError: an output is an input, or another output.
    """
    taken = [name for key in _READ for name in _names(args, key) if os.path.isfile(name)]
    for key in _WRITTEN:
        for name in _names(args, key):
            for other in taken:
                if _real(name) == _real(other) or _one_file(name, other):
                    raise UsageError(f"{name}: is read or written by this command already; write to another file")
            if name != "-" and not name.startswith("/dev/"):
                taken.append(name)


def _real(name: str) -> str:
    try:
        return os.path.realpath(name)
    except OSError:  # this folder is gone: what is written will fail, and say so
        return name


def _one_file(name: str, other: str) -> bool:
    return os.path.exists(name) and os.path.exists(other) and os.path.samefile(name, other)


def _names(args: argparse.Namespace, key: str) -> list[str]:
    given = getattr(args, key, None)
    return [given] if isinstance(given, str) else [name for name in given or () if isinstance(name, str)]


def print_json(document: Mapping[str, object]) -> None:
    """One document on stdout."""
    sys.stdout.write(json_text(document) + "\n")


def json_text(value: object, line: str = "\n") -> str:
    """A value as ``json.dumps(value, indent=1)`` has it, whose encoder is slow where there are lines to indent.

    Args:
        value: it.
        line: what begins a line of it.
    """
    import json
    from json.encoder import encode_basestring_ascii as quoted

    def text(value: object, line: str) -> str:
        kind = type(value)
        if kind is str:
            return quoted(value)  # type: ignore[arg-type]
        if value is None or kind is bool:
            return "null" if value is None else "true" if value else "false"
        if kind is int:
            return repr(value)
        more = line + " "
        if kind is dict and value and all(type(key) is str for key in value):  # type: ignore[attr-defined]
            members = [f"{quoted(key)}: {text(item, more)}" for key, item in value.items()]  # type: ignore[attr-defined]
            return f"{{{more}{(',' + more).join(members)}{line}}}"
        if (kind is list or kind is tuple) and value:
            return f"[{more}{(',' + more).join([text(item, more) for item in value])}{line}]"  # type: ignore[attr-defined]
        # Strings have no line ends of their own.
        return json.dumps(value, indent=1).replace("\n", line)

    return text(value, line)


def print_rows(format_: str, rows: Iterable[Mapping[str, object]], columns: Sequence[str]) -> None:
    """Rows on stdout, as JSON lines or CSV with a heading."""
    if format_ == "jsonl":
        import json

        for row in rows:
            sys.stdout.write(json.dumps(row) + "\n")
        return
    import csv

    writer = csv.DictWriter(sys.stdout, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def print_lines(lines: Iterable[str]) -> None:
    """Text for people on stdout, as wide as the terminal."""
    from pvops.render.terminal import folded

    sys.stdout.writelines(f"{line}\n" for line in folded(lines))


def print_listing(pieces: Iterable[bytes]) -> None:
    """Lines on stdout that come in pieces of UTF-8; on a terminal as wide as it is."""
    from pvops.render.terminal import folded, room

    if room() is None:
        print_pieces(pieces)
        return
    rest = ""
    for piece in pieces:
        *lines, rest = (rest + piece.decode()).split("\n")
        sys.stdout.write("".join(f"{line}\n" for line in folded(lines)))
    if rest:
        print_lines([rest])


def print_pieces(pieces: Iterable[bytes]) -> None:
    """Text on stdout that comes in pieces of UTF-8: ASCII goes there as it is."""
    raw = getattr(sys.stdout, "buffer", None)
    for piece in pieces:
        if raw is not None and piece.isascii():
            sys.stdout.flush()
            raw.write(piece)
        else:
            sys.stdout.write(piece.decode())


def error_document(error: Exception) -> dict[str, object]:
    """An error under ``--json``."""
    document: dict[str, object] = {"schema": "pvops.error/1", "error": type(error).__name__, "message": str(error)}
    if isinstance(error, Error):
        from pvops.render.terminal import hex_address

        document |= {
            "reason": error.reason,
            "file": error.file,
            "section": error.section,
            "row": error.row,
            "address": hex_address(error.address),
            "offset": error.offset,
        }
    return document
