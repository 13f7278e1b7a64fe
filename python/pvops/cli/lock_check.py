"""``pvops lock check``: the lock protocols, and mutants of them, model-checked."""

from __future__ import annotations

import argparse

from pvops.cli import output, pages
from pvops.cli.streams import standard_input
from pvops.progress import Bar
from pvops.render import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

#: The columns of CSV: all of a row but its trace.
COLUMNS = (
    "protocol",
    "mutant",
    "scenario",
    "threads",
    "slots",
    "acquisitions",
    "bound",
    "states",
    "finished",
    "caught",
    "violation",
    "what",
    "tool",
    "needs_threads",
    "needs_acquisitions",
)
#: Bytes of a document to replay, at most.
_LARGEST = 256 << 20
#: The exit status where a protocol is broken, a mutant not caught, or a search not finished.
UNEXPECTED = 1


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    page = pages.wanted(args)
    if args.replay is not None:
        return _replay(args)
    from pvops.lock.check import STATES, cases, checked, uncatchable

    mutant = None if args.mutant == "none" else args.mutant
    numbers = {name: getattr(args, name) for name in ("threads", "slots", "acquisitions")}
    chosen = cases(args.protocol, mutant, **numbers)
    states = STATES if args.states is None else args.states
    rows = list(Bar("searches:").of(checked(chosen, states), len(chosen)))
    if page:
        from pvops.render import lock_check_page

        pages.write(args, lock_check_page.page(rows, pages.made(args)), f"{len(rows)} cases")
    if args.format_ == "json":
        output.print_json(
            {
                "schema": "pvops.lock.check/1",
                "checks": [row.document() for row in rows],
                "uncatchable": [{"mutant": name, "reason": why} for name, why in uncatchable().items()],
            }
        )
    elif args.format_ in ("jsonl", "csv"):
        output.print_rows(args.format_, (row.document() for row in rows), COLUMNS)
    elif pages.text_too(args):
        from pvops.render import lock_check as render

        style = terminal.Style(args.color)
        shown = len(rows) == 1 if args.trace is None else args.trace
        output.print_lines(render.report(rows, style, traces=shown))
    return 0 if all(row.as_expected for row in rows) else UNEXPECTED


def _replay(args: argparse.Namespace) -> int:
    from pvops.errors import Error, LockError, UsageError

    if args.html is not None:
        raise UsageError("--replay prints what it confirms; there is no page of it")
    if args.format_ in ("jsonl", "csv"):
        raise UsageError(f"--replay prints a line of text for each run, or --json; no --{args.format_}")
    from pvops.lock.check import replay

    confirmed: list[dict[str, object]] = []
    for number, row in enumerate(_rows(args.replay)):
        try:
            what = _followed(row) if "protocol" not in row else replay(row)
            confirmed.append({"protocol": row.get("protocol", row.get("guest")), "mutant": row["mutant"], "what": what})
        except Error as error:
            place = f"{args.replay}: check {number}: {error}"
            raise LockError(place, reason=error.reason, file=args.replay, section="trace", row=error.row) from None
    if args.format_ == "json":
        output.print_json({"schema": "pvops.lock.replay/1", "replayed": confirmed})
    else:
        for line in confirmed:
            print(f"{line['protocol']} {line['mutant'] or '(sound)'}: {line['what']}")
    return 0


def _followed(row: Mapping[str, Any]) -> str:
    """A run of machine code, as `pvops run --vcpus N --trace --json` has it, taken in the model."""
    from pvops.errors import LockError
    from pvops.lock.check import follow

    try:
        run = [(e["vcpu"], e["what"], e["lock"]) for e in row["trace"] if e["kind"] in ("step", "drain")]
        slots, buffers = row["locks"][0]["slots"], row["setting"].get("buffers", False)
        broken = follow(row["guest"], row["mutant"], row["vcpus"], run, slots=slots, buffers=bool(buffers))
    except (KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise LockError(f"not a row of `pvops run --vcpus N --trace --json`: {error}", section="trace") from None
    return f"{len(run):,} steps of machine code are a run of the model" + (
        f", which ends in {broken}" if broken else ""
    )


def _rows(path: str) -> Sequence[dict[str, object]]:
    """The rows of a document that have a trace, or the one row that a file holds."""
    import json

    from pvops.errors import LockError

    try:
        if path == "-":
            text = standard_input().read(_LARGEST + 1)
        else:
            with open(path, "rb") as file:
                text = file.read(_LARGEST + 1)
        if len(text) > _LARGEST:
            raise LockError(f"{path}: larger than {_LARGEST >> 20} MiB, no document of traces", file=path)
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LockError(f"{path}: not JSON: {error}", file=path) from None
    rows = document.get("checks", document.get("runs", [document])) if isinstance(document, dict) else None
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and {"protocol", "locks"} & set(row) for row in rows
    ):
        raise LockError(f"{path}: not a document or row of `pvops lock check --json` or `pvops run --vcpus`", file=path)
    traced = [row for row in rows if row.get("trace")]
    if not traced:
        raise LockError(f"{path}: no row has a trace", file=path)
    return traced
