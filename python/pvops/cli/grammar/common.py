"""What the grammars of several commands share."""

from __future__ import annotations

import argparse
import os
import sys

KERNEL = "a vmlinuz (any compression the kernel offers), an ELF vmlinux, or - for standard input"

TYPE_CHECKING = False
if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Commands = object


class Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=_width())


def _width() -> int:
    """Columns to fill. argparse would ask shutil, which loads every compressor first."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit() and int(columns) > 0:
        return max(int(columns) - 2, 40)
    try:
        return max(os.get_terminal_size(sys.__stdout__.fileno() if sys.__stdout__ else 1).columns - 2, 40)
    except (OSError, ValueError):
        return 98


def command(commands: Commands, name: str, description: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, description=description, formatter_class=Formatter)
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
        help="the machine it boots on: a bundle of facts, JSON, TOML, or a preset's name (default: what the backend "
        "usually meets)",
    )
