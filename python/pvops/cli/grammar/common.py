"""What the grammars of several commands share."""

from __future__ import annotations

import argparse
import os
import sys

from pvops.cli.grammar.commands import COMMANDS
from pvops.errors import nearest

PLACE = "a name, name+58 (decimal, as gdb), name+0x3a/0x80 (as an oops), an address (0x…)"

KERNEL = "a vmlinuz (any compression the kernel offers), an ELF vmlinux, or - for standard input"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Commands = object


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, with the nearest name, and a document under ``--json``."""

    #: Whether the command line asks for JSON; set before anything is parsed.
    json = False
    #: The command line as it was typed.
    typed: Sequence[str] = ()
    #: Options and words are parsed one after the other.
    _mixing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, but what a command does not know is that command's error, which knows its options."""
        found, unknown = super().parse_known_args(args, namespace)
        if not unknown or self._subparsers is not None or self._mixing:
            return found, unknown
        if all(word[:1] != "-" for word in unknown) and "--" not in args:
            # Words behind options: argparse gives lists of words none of those behind the first option.
            self._mixing = True
            try:
                found, unknown = self.parse_known_intermixed_args(args, namespace)
            finally:
                self._mixing = False
        if unknown:
            self.error(self._unknown(unknown))
        return found, unknown

    def _unknown(self, unknown: Sequence[str]) -> str:
        hint = nearest(unknown[0].partition("=")[0], self._option_string_actions) if unknown[0][:1] == "-" else ""
        return f"unknown argument {unknown[0]}{hint}"

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            what = str(action.metavar or action.dest).lower()
            name = f"{'/'.join(action.option_strings)} " if action.option_strings else f"{what} "
            hint = nearest(str(value), known) or f": there are {', '.join(known)}"
            raise argparse.ArgumentError(None, f"no {name}{value}{hint}")

    def error(self, message: str) -> NoReturn:
        """Says what is wrong in one line, and exits with status 2."""
        message = message.replace("the following arguments are required: ", "missing: ")
        # A file's name that looks like an option was taken for one.
        named = next(
            (word for word in self.typed if word[:1] == "-" and word.strip("-") and os.path.exists(word)), None
        )
        if named is not None and message.startswith(("missing: ", "unknown argument ")):
            message += f"; the file {named} is written ./{named}"
        more = "" if "did you mean" in message else f" (see {self.prog} --help)"
        from pvops.cli.output import note

        note(message + more)
        if self.json:
            from pvops.cli.output import error_document, print_json
            from pvops.errors import UsageError

            print_json(error_document(UsageError(message)))
        self.exit(2)


class Formatter(argparse.HelpFormatter):
    """Help as wide as the terminal; text of several lines, such as examples, stays as it is."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=columns() - 2)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return "".join(indent + line for line in text.splitlines(keepends=True))
        return super()._fill_text(text, width, indent)


def columns(elsewhere: int = 100) -> int:
    """Columns of the terminal that standard output is; where it is none, as many as are given.

    argparse would ask shutil, which loads every compressor first.
    """
    given = os.environ.get("COLUMNS", "")
    if given.isdigit() and int(given) > 0:
        return max(int(given), 42)
    try:
        return max(os.get_terminal_size(sys.__stdout__.fileno() if sys.__stdout__ else 1).columns, 42)
    except (OSError, ValueError):
        return elsewhere


def command(commands: Commands, name: str, description: str) -> argparse.ArgumentParser:
    what, example = COMMANDS[name]
    parser = commands.add_parser(
        name, help=what, description=description, epilog=f"example:\n  {example}", formatter_class=Formatter
    )
    parser.set_defaults(format_="text")
    parser.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="colour (auto: on a terminal; see NO_COLOR)",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="say on stderr what was found and assumed")
    return parser


def formats(parser: argparse.ArgumentParser, *, rows: bool) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--json", dest="format_", action="store_const", const="json", help="one JSON document")
    if rows:
        group.add_argument("--jsonl", dest="format_", action="store_const", const="jsonl", help="a JSON object a line")
        group.add_argument("--csv", dest="format_", action="store_const", const="csv", help="comma-separated values")


def jobs(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--jobs", metavar="N", type=int, help=f"{what} at once (default: one a CPU)")


def html(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "--html", metavar="FILE", help=f"write {what} as one self-contained page, or to standard output with -"
    )


def names(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-names", dest="names", action="store_false", help="do not look up the image's symbols (faster)"
    )


def machine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--machine",
        metavar="FACTS",
        help="the machine it boots on: a bundle of facts, JSON, TOML, or a preset's name (see pvops machine "
        "--presets); baseline: a CPU of which nothing is known (default: a CPU usual in servers when that kernel came "
        "out, which the output names)",
    )


def backends(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backend",
        metavar="NAME",
        action="append",
        default=[],
        help="under this backend: native, kvm, xen, xen-hvm, vmware, hyperv (default: that of the machine's "
        "hypervisor, else native); may be repeated",
    )


def slide(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--slide",
        type=_hexadecimal,
        metavar="HEX",
        help="the kernel slid by this much (KASLR): addresses given, shown and written are its; JSON has them beside "
        "those as linked, as runtime_address",
    )
    group.add_argument("--slide-of", metavar="DUMP", help="the same, by as much as the kernel in this memory slid")


#: ``KERNEL_IMAGE_SIZE`` of x86-64, within which a kernel slides (arch/x86/include/asm/page_64_types.h); i386 has half.
_SLIDES_WITHIN = 1 << 30


def _hexadecimal(text: str) -> int:
    """A slide: hexadecimal with or without 0x; one downwards as `verify` prints it, modulo 2**64."""
    number = int(text, 16)
    if (1 << 64) - _SLIDES_WITHIN < number < 1 << 64:
        number -= 1 << 64
    if not -_SLIDES_WITHIN < number < _SLIDES_WITHIN:
        raise argparse.ArgumentTypeError(f"{text} is no slide: kernels slide by less than a GiB")
    return number


setattr(_hexadecimal, "__name__", "hexadecimal number")  # noqa: B010 (argparse names a type by it)
