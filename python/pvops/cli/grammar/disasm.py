"""The grammar of `pvops disasm`."""

from __future__ import annotations

from pvops.cli.grammar.common import KERNEL, PLACE, Commands, backends, command, formats, machine, slide


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "disasm",
        "Shows a whole function as it runs after boot, each patched instruction marked with the pass that wrote it; "
        "with several backends, side by side.",
    )
    parser.add_argument("kernel", metavar="KERNEL", help=KERNEL)
    parser.add_argument("function", metavar="FUNCTION", help=f"the function: {PLACE}, or a range (LOW-HIGH)")
    backends(parser)
    machine(parser)
    slide(parser)
    formats(parser, rows=True)
