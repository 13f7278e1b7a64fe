"""``--html``: the page a command writes, and what its foot says."""

from __future__ import annotations

import argparse

from pvops.cli import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.machine.machine import Machine
    from pvops.render import html


def wanted(args: argparse.Namespace) -> bool:
    """Whether a page is wanted.

    Raises:
        UsageError: it and other data both want standard output.
    """
    if args.html == "-" and args.format_ != "text":
        from pvops.errors import UsageError

        raise UsageError(f"--html - and --{args.format_} both want standard output; write the page to a file")
    if args.html is not None:
        output.writable(args.html)
    return args.html is not None


def made(args: argparse.Namespace, machine: Machine | str | None = None) -> html.Made:
    """What the foot of the page says."""
    import shlex

    from pvops.render import html

    named = machine if isinstance(machine, str) or machine is None else machine.name
    return html.Made(shlex.join(["pvops", *args.words]), named)


def write(args: argparse.Namespace, page: str, what: str) -> None:
    """Writes the page and says so, with what is on it."""
    from pvops.render import html

    html.write(args.html, page)
    if args.html != "-":
        output.note(f"{what} -> {args.html}")


def text_too(args: argparse.Namespace) -> bool:
    """Whether text goes to standard output: not where the page does."""
    return bool(args.html != "-")
