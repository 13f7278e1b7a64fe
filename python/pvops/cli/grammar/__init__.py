"""The grammar of the command line: one module a command, which adds that command's parser."""

from __future__ import annotations

import argparse
from importlib import import_module

from pvops.cli.grammar.commands import COMMANDS
from pvops.cli.grammar.common import Commands, Formatter, Parser, columns
from pvops.errors import nearest

__all__ = ["COMMANDS", "overview", "parse", "whole"]

_ABOUT = "What Linux's paravirt patching does to kernel text, offline, byte for byte."

# The command speaks English only. Left to itself argparse asks for a translation of each of its headings: it loads
# `locale` and looks for catalogues on disk, which takes as long as all else it does.
setattr(argparse, "_", lambda text: text)  # noqa: B010 (a name that type checkers do not know)


def parse(argv: list[str]) -> argparse.Namespace:
    """The parsed arguments; `command` names the module of `pvops.cli` that runs them."""
    Parser.json, Parser.typed = "--json" in argv, argv
    parser, commands = _top()
    # Building a parser takes longer than most commands: only that of the command given; help and errors need names.
    asked = argv[0] if argv else ""
    if "" in argv:
        parser.error(f"argument {argv.index('') + 1} is empty")
    known = any(option.startswith(asked) for option in parser._option_string_actions) or "--version" in argv
    if asked[:1] == "-" and not known:
        parser.error(f"unknown argument {asked}{nearest(asked, parser._option_string_actions)}; a COMMAND comes first")
    if asked in COMMANDS:
        import_module(f"pvops.cli.grammar.{asked}").add(commands)
    else:
        for name, (what, _) in COMMANDS.items():
            commands.add_parser(name, help=what, add_help=False)
    return parser.parse_args(argv)


def whole() -> argparse.ArgumentParser:
    """The parser of all commands: what references, manual pages and completions are made from."""
    parser, commands = _top()
    for name in COMMANDS:
        import_module(f"pvops.cli.grammar.{name}").add(commands)
    return parser


def _top() -> tuple[argparse.ArgumentParser, Commands]:
    parser: argparse.ArgumentParser = Parser(
        prog="pvops", description=_ABOUT, epilog=_examples(), formatter_class=Formatter
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version, with -v the build, and exit")
    parser.add_argument(
        "--schema", action=_Schema, metavar="DOCUMENT", help="print the JSON Schema of a document (sites, machine, …)"
    )
    parser.add_argument(
        "--completion",
        action=_Completion,
        metavar="SHELL",
        help="print what makes bash, zsh or fish complete commands (needs shtab: the extra `completion`)",
    )
    return parser, parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)


def overview() -> str:
    """What `pvops` alone says: an example a command; what it does beside it, or below it."""
    width = max(len(example) for _, example in COMMANDS.values())
    lines = [f"  {example.ljust(width)}  {what}" for what, example in COMMANDS.values()]
    if max(map(len, lines)) > columns(elsewhere=1000):
        lines = [line for what, example in COMMANDS.values() for line in (f"  {example}", f"      {what}")]
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


class _Completion(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, _: object, value: object, *__: object) -> None:
        from pvops.cli.completion import script
        from pvops.errors import UsageError

        try:
            print(script(str(value), whole()))
        except UsageError as error:
            parser.error(str(error))
        parser.exit()


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        import pvops._core as _core

        print(f"pvops {_core.__version__}")
        if {"-v", "--verbose"} & set(Parser.typed):
            from pvops.cli.about import facts

            print("\n".join(facts()))
        parser.exit()
