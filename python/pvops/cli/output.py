"""Printing: JSON documents, rows, and notes for the person at the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence

from pvops.errors import Error, InputError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def note(message: str) -> None:
    """A line for the person at the terminal, on stderr."""
    print(f"pvops: {message}", file=sys.stderr)


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
                if os.path.realpath(name) == os.path.realpath(other) or _one_file(name, other):
                    raise UsageError(f"{name}: is read or written by this command already; write to another file")
            if name != "-" and not name.startswith("/dev/"):
                taken.append(name)


def _one_file(name: str, other: str) -> bool:
    return os.path.exists(name) and os.path.exists(other) and os.path.samefile(name, other)


def _names(args: argparse.Namespace, key: str) -> list[str]:
    given = getattr(args, key, None)
    return [given] if isinstance(given, str) else [name for name in given or () if isinstance(name, str)]


def print_json(document: Mapping[str, object]) -> None:
    """One document on stdout."""
    import json

    json.dump(document, sys.stdout, indent=1)
    sys.stdout.write("\n")


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
