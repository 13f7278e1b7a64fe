"""The grammar of `pvops lock`: one module a subcommand."""

from __future__ import annotations

from importlib import import_module

from pvops.cli.grammar.commands import COMMANDS
from pvops.cli.grammar.common import Commands, Formatter

#: The subcommands and what the help says of each; each is a module here, named lock_NAME, and one of `pvops.cli`.
SUBCOMMANDS = {
    "bench": "measure the locks on this machine, beside those that people use",
    "check": "check the lock protocols, and mutants of them, exhaustively",
    "simulate": "simulate virtual CPUs that share a lock",
}


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "lock",
        help=COMMANDS["lock"][0],
        description="The paravirtual ticket lock: measured, simulated and model-checked.",
        epilog=f"example:\n  {COMMANDS['lock'][1]}",
        formatter_class=Formatter,
    )
    subcommands = parser.add_subparsers(dest="subcommand", metavar="SUBCOMMAND", required=True)
    for name, what in SUBCOMMANDS.items():
        import_module(f"pvops.cli.grammar.lock_{name}").add(subcommands, what)
