"""`pvops corpus`: a folder of kernels, each opened, and held to its boots."""

from __future__ import annotations

import argparse
import sys

from pvops import corpus
from pvops.cli import output
from pvops.corpus.results import COLUMNS
from pvops.errors import OpsError
from pvops.progress import Bar
from pvops.render import corpus_text, terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pvops.corpus import KernelResult

#: Something is wrong, unexplained or refused.
NOT_EXACT = 1


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    if args.jobs is not None and args.jobs < 1:
        raise OpsError(f"--jobs {args.jobs}: at least one process is wanted")
    folder = corpus.folder(args.folder, args.boots)
    if folder.orphans:
        some = ", ".join(folder.orphans[:3]) + (", …" if len(folder.orphans) > 3 else "")
        output.note(f"boots of kernels that are not here: {len(folder.orphans)}, left out ({some})")
    results: list[KernelResult] = []
    style = terminal.Style(args.color)

    def judged() -> Iterator[KernelResult]:
        for result in corpus.judge_all(folder, jobs=args.jobs):
            results.append(result)
            yield result
            sys.stdout.flush()  # each kernel as it comes: a corpus may take hours

    if args.format_ == "json":
        counted = Bar("kernels judged:").of(judged(), len(folder.kernels))
        output.print_json({"schema": "pvops.corpus/1", "kernels": [result.to_dict() for result in counted]})
    elif args.format_ in ("jsonl", "csv"):
        output.print_rows(args.format_, (row for result in judged() for row in result.rows()), COLUMNS)
    else:
        for result in judged():
            output.print_lines(corpus_text.lines(result, style, args.verbose))
        output.print_lines([corpus_text.summary(results, style)])
    return 0 if all(result.outcome in ("exact", "opened") for result in results) else NOT_EXACT
