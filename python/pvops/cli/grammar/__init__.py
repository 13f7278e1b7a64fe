"""The grammar of the command line: one module a command, which adds that command's parser."""

from __future__ import annotations

import argparse
from importlib import import_module

from pvops.cli.grammar.common import Formatter

#: The commands and what the help says of each, in its order; each is a module here and one of `pvops.cli`.
COMMANDS = {
    "sites": "list every site the kernel may rewrite",
    "ops": "show the ops structures",
    "explain": "say what a site becomes, and why",
    "patch": "write the image as the kernel patches it",
    "diff": "say what differs between two boots",
    "verify": "explain a running kernel's text, byte for byte",
    "machine": "describe this machine or another",
    "run": "run guests in an emulator, below several hypervisors",
    "lock": "the ticket lock: measured, simulated and model-checked",
    "bench": "measure what a call site costs on this CPU",
}

_EXAMPLES = """\
examples:
  pvops sites /boot/vmlinuz-6.1.0-56-amd64
  pvops explain vmlinuz do_syscall_64 --backend native --backend xen
  pvops patch vmlinuz --backend kvm --machine guest.facts --format text -o text.bin
  pvops diff vmlinuz native guest.facts --html diff.html
  pvops verify vmlinuz guest.core --html report.html
  pvops machine -o here.json
  pvops ops --era seed --config X86_PAE=y
  pvops bench --kernel vmlinuz --plot forms.svg
  pvops run switch --era seed --html run.html
"""

# The command speaks English only. Left to itself argparse asks for a translation of each of its headings: it loads
# `locale` and looks for catalogues on disk, which takes as long as all else it does.
setattr(argparse, "_", str)  # noqa: B010 (a name that type checkers do not know)


def parse(argv: list[str]) -> argparse.Namespace:
    """The parsed arguments; `command` names the module of `pvops.cli` that runs them."""
    parser = argparse.ArgumentParser(
        prog="pvops",
        description="What Linux's paravirt patching does to kernel text, reproduced offline, byte for byte.",
        epilog=_EXAMPLES,
        formatter_class=Formatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    # Building a parser takes longer than most commands: only that of the command given; help and errors need names.
    asked = argv[0] if argv else ""
    if asked in COMMANDS:
        import_module(f"pvops.cli.grammar.{asked}").add(commands)
    else:
        for name, what in COMMANDS.items():
            commands.add_parser(name, help=what)
    return parser.parse_args(argv)


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        import pvops._core as _core

        print(f"pvops {_core.__version__}")
        parser.exit()
