"""The grammar of `pvops sites`."""

from __future__ import annotations

from pvops.cli.grammar.common import KERNEL, Commands, command, formats, jobs, names, slide
from pvops.image.tables import TABLES


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "sites",
        "Lists every address the kernel may rewrite, with the rows of all tables that name it: paravirt calls with "
        "their op and its type, alternatives, retpolines, returns, static calls, jump labels and the others.",
    )
    parser.add_argument("kernel", metavar="KERNEL", help=KERNEL)
    parser.add_argument(
        "--table", metavar="NAME", choices=TABLES, help=f"only the rows of this table: {', '.join(TABLES)}"
    )
    parser.add_argument("--op", metavar="OP", help="only sites of this op, as pv_irq_ops.irq_enable")
    parser.add_argument("--summary", action="store_true", help="only the summary")
    names(parser)
    slide(parser)
    jobs(parser, "threads")
    formats(parser, rows=True)
