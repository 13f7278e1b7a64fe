"""Printing: JSON documents, rows, and notes for the person at the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence

from pvops.errors import Error, InputError


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
