"""The grammar of `pvops explain`."""

from __future__ import annotations

from pvops.cli.grammar.common import KERNEL, Commands, command, formats, html, machine


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
        help="an address (0x…), a range (LOW-HIGH), symbol, symbol+0xOFFSET; a symbol or range: all its sites",
    )
    parser.add_argument(
        "--backend",
        metavar="NAME",
        action="append",
        default=[],
        help="under this backend (default: native); may be repeated",
    )
    html(parser, "the explanation")
    machine(parser)
    formats(parser, rows=False)
