"""The grammar of `pvops explain`."""

from __future__ import annotations

from pvops.cli.grammar.common import KERNEL, PLACE, Commands, backends, command, formats, html, machine, slide


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "explain",
        "Says what stands at a site as built, what each pass writes there and why, and what runs in the end.",
    )
    parser.add_argument("kernel", metavar="KERNEL", help=KERNEL)
    parser.add_argument(
        "where",
        metavar="ADDRESS|SYMBOL",
        help=f"{PLACE}, or a range (LOW-HIGH); a whole symbol or range means all its sites",
    )
    backends(parser)
    html(parser, "the explanation")
    machine(parser)
    slide(parser)
    formats(parser, rows=False)
