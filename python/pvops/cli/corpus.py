"""`pvops corpus`: a folder of kernels, each opened, and held to its boots."""

from __future__ import annotations

import argparse
import sys

from pvops import corpus
from pvops.cli import output
from pvops.errors import OpsError
from pvops.render import corpus_text, terminal

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
    results = []
    style = terminal.Style(args.color)
    for result in corpus.judge_all(folder, jobs=args.jobs):
        results.append(result)
        if args.format_ != "json":
            sys.stdout.write("\n".join(corpus_text.lines(result, style, args.verbose)) + "\n")
            sys.stdout.flush()
    if args.format_ == "json":
        output.print_json({"schema": "pvops.corpus/1", "kernels": [result.to_dict() for result in results]})
    else:
        sys.stdout.write(corpus_text.summary(results, style) + "\n")
    return 0 if all(result.outcome in ("exact", "opened") for result in results) else NOT_EXACT
