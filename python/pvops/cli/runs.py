"""What `pvops run` found, printed: guests on one CPU, or locks on several."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence

from pvops.cli import output, pages

#: The exit status where a run ended badly or in another state than the others, or a lock broke a promise unplanted.
WRONG = 1


def show(
    args: argparse.Namespace,
    wrong: Sequence[str],
    *,
    document: Callable[[], Mapping[str, object]],
    rows: Iterable[Mapping[str, object]],
    columns: Sequence[str],
    lines: Iterable[str],
) -> int:
    """Prints runs in the format that is asked for, and gives the exit status.

    Args:
        args: of the command.
        wrong: what went wrong, a line each.
        document: makes the JSON document.
        rows: a row a run.
        columns: of CSV.
        lines: the text.
    """
    if args.format_ == "json":
        output.print_json(document())
    elif args.format_ in ("jsonl", "csv"):
        output.print_rows(args.format_, rows, columns)
    elif pages.text_too(args):
        output.print_lines(lines)
    for line in wrong:
        output.note(line)
    return WRONG if wrong else 0
