"""The grammar of `pvops bench`."""

from __future__ import annotations

from pvops.cli.grammar.common import KERNEL, Commands, command, formats, html, machine


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "bench",
        "Measures what each form of a call site costs on this CPU: real code, patched by a kernel's passes, and run. "
        "With --kernel, what that means for a kernel. Exit status 1 where the method's own checks fail.",
    )
    parser.add_argument("--kernel", metavar="KERNEL", help=f"estimate each op and path of a kernel: {KERNEL}")
    machine(parser)
    parser.add_argument("--seconds", type=float, default=6.0, help="how long to measure (default %(default)g)")
    parser.add_argument("--cpu", type=int, metavar="N", help="the CPU to measure on (default: where it runs)")
    parser.add_argument(
        "--plot", metavar="FILE", help="draw the forms, .svg or .png (needs matplotlib: the extra plot)"
    )
    html(parser, "the measurement")
    formats(parser, rows=True)
