"""The grammar of `pvops diff`."""

from __future__ import annotations

from pvops.cli.grammar.common import KERNEL, Commands, command, formats, html


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "diff",
        "Says what differs in a kernel's text between two boots, site by site: the bytes, what they do, and why, on "
        "each side. Exit status 0 where nothing differs, 1 where something does.",
    )
    parser.add_argument("kernel", metavar="KERNEL", help=KERNEL)
    side = "a machine (a bundle of facts, JSON, TOML, or a preset's name), a backend's name, or BACKEND:MACHINE"
    parser.add_argument("a", metavar="A", help=side)
    parser.add_argument("b", metavar="B", help="the same, for the other boot")
    parser.add_argument(
        "--machine",
        metavar="FACTS",
        help="the machine, where A or B names a backend only (default: a CPU usual in servers when that kernel came "
        "out, which the output names)",
    )
    parser.add_argument("--summary", action="store_true", help="only the counts and the groups, not each site")
    html(parser, "the difference")
    formats(parser, rows=True)
