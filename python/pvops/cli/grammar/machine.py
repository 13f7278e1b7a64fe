"""The grammar of `pvops machine`."""

from __future__ import annotations

from pvops.cli.grammar.common import Commands, command, formats


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "machine",
        "Describes this machine, or another from the facts collected on it: what decides how a kernel rewrites itself "
        "there. What -o writes is taken by --machine of the other commands, and gives the same predictions; it holds "
        "the command line and the kernel's log.",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--from",
        dest="facts",
        metavar="FACTS",
        help="another machine: a bundle of facts, JSON, TOML, a preset's name, or - for standard input",
    )
    source.add_argument(
        "--collect",
        action="store_true",
        help="print a shell script that collects the facts on a guest without Python: pvops machine --collect > "
        "collect.sh; there, as root: sh collect.sh > guest.facts",
    )
    source.add_argument("--presets", action="store_true", help="list the presets: CPUs that kernels often meet")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="write the description as JSON, or to standard output with -"
    )
    formats(parser, rows=False)
