"""The grammar of the command line: one module a command, which adds that command's parser."""

from __future__ import annotations

import argparse
from importlib import import_module

from pvops.cli.grammar.common import Formatter, Parser

#: The commands: what the help says of each, and an example; each is a module here and one of `pvops.cli`.
COMMANDS = {
    "sites": ("list every site the kernel may rewrite", "pvops sites /boot/vmlinuz-6.1.0-56-amd64"),
    "ops": ("show the ops structures", "pvops ops --era seed --config X86_PAE=y"),
    "explain": ("say what a site becomes, and why", "pvops explain vmlinuz do_syscall_64+58 --backend xen"),
    "disasm": ("show a function as it runs", "pvops disasm vmlinuz _raw_spin_unlock --backend native --backend kvm"),
    "patch": ("write the image as the kernel patches it", "pvops patch vmlinuz --machine guest.facts -o patched"),
    "diff": ("say what differs between two boots", "pvops diff vmlinuz native guest.facts --html diff.html"),
    "verify": ("explain a running kernel's text, byte for byte", "pvops verify vmlinuz guest.core --html report.html"),
    "machine": ("describe this machine or another", "pvops machine -o here.json"),
    "run": ("run guests in an emulator, below several hypervisors", "pvops run switch --era seed --html run.html"),
    "lock": ("the ticket lock: measured, simulated and model-checked", "pvops lock check --protocol pv-ticket"),
    "bench": ("measure what a call site costs on this CPU", "pvops bench --kernel vmlinuz --plot forms.svg"),
}

_ABOUT = "What Linux's paravirt patching does to kernel text, reproduced offline, byte for byte."

# The command speaks English only. Left to itself argparse asks for a translation of each of its headings: it loads
# `locale` and looks for catalogues on disk, which takes as long as all else it does.
setattr(argparse, "_", str)  # noqa: B010 (a name that type checkers do not know)


def parse(argv: list[str]) -> argparse.Namespace:
    """The parsed arguments; `command` names the module of `pvops.cli` that runs them."""
    Parser.json = "--json" in argv
    parser = Parser(prog="pvops", description=_ABOUT, epilog=_examples(), formatter_class=Formatter)
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    parser.add_argument(
        "--schema", action=_Schema, metavar="DOCUMENT", help="print the JSON Schema of a document (sites, machine, …)"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    # Building a parser takes longer than most commands: only that of the command given; help and errors need names.
    asked = argv[0] if argv else ""
    if asked in COMMANDS:
        import_module(f"pvops.cli.grammar.{asked}").add(commands)
    else:
        for name, (what, _) in COMMANDS.items():
            commands.add_parser(name, help=what)
    return parser.parse_args(argv)


def overview() -> str:
    """What `pvops` alone says: an example a command."""
    width = max(len(example) for _, example in COMMANDS.values())
    lines = [f"  {example.ljust(width)}  {what}" for what, example in COMMANDS.values()]
    return "\n".join([_ABOUT, "", *lines, "", "pvops COMMAND --help says more."])


def _examples() -> str:
    return "\n".join(["examples:", *(f"  {example}" for _, example in COMMANDS.values())])


class _Schema(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, _: object, value: object, *__: object) -> None:
        from pvops.cli.output import print_json
        from pvops.errors import UsageError
        from pvops.schemas import schema

        try:
            print_json(schema(str(value)))
        except UsageError as error:
            parser.error(str(error))
        parser.exit()


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        import pvops._core as _core

        print(f"pvops {_core.__version__}")
        parser.exit()
