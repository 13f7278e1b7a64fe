"""The grammar of `pvops ops`."""

from __future__ import annotations

from pvops.cli.grammar.common import KERNEL, Commands, command, formats, machine
from pvops.eras import eras


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "ops",
        "Shows the ops structures as a table: type, offset, op, and what each backend puts there. Of a kernel, or of "
        "an era's headers under a configuration.",
    )
    parser.add_argument("kernel", metavar="KERNEL", nargs="?", help=KERNEL)
    parser.add_argument("--era", metavar="ERA", help=f"the headers of an era: {', '.join(eras())}; seed is 2.6.24-rc1")
    parser.add_argument(
        "--config",
        metavar="FILE|KEY=y",
        action="append",
        default=[],
        help="configuration: a kernel .config, or a symbol set (KEY=y) or not (KEY=n); may be repeated",
    )
    parser.add_argument("--bits", type=int, choices=(32, 64), help="pointer size (default: the era's usual)")
    parser.add_argument(
        "--backend", metavar="NAME", action="append", default=[], help="show this backend; may be repeated"
    )
    parser.add_argument("--asm-offsets", action="store_true", help="the era's asm-offsets entries instead")
    machine(parser)
    formats(parser, rows=True)
