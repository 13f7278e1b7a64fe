"""The grammar of the command line."""

from __future__ import annotations

import argparse
import os
import sys

#: Every table of sites, as `pvops.sites` names them; named here, so that no help text loads that.
TABLES = (
    "paravirt",
    "alternatives",
    "retpolines",
    "returns",
    "smp_locks",
    "static_calls",
    "trampolines",
    "jump_labels",
    "ibt",
    "mcount",
    "call_sites",
    "runtime_const",
)

KERNEL = "a vmlinuz (any compression the kernel offers), an ELF vmlinux, or - for standard input"

_EXAMPLES = """\
examples:
  pvops sites /boot/vmlinuz-6.1.0-56-amd64
  pvops explain vmlinuz do_syscall_64 --backend native --backend xen
  pvops patch vmlinuz --backend kvm --machine guest.facts --format text -o text.bin
  pvops diff vmlinuz native guest.facts --html diff.html
  pvops machine -o here.json
  pvops ops --era seed --config X86_PAE=y
"""


class _Formatter(argparse.RawDescriptionHelpFormatter):
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


# The command speaks English only. Left to itself argparse asks for a translation of each of its headings: it loads
# `locale` and looks for catalogues on disk, which takes as long as all else it does.
setattr(argparse, "_", str)  # noqa: B010 (a name that type checkers do not know)


def parse(argv: list[str]) -> argparse.Namespace:
    """The parsed arguments; `command` names the module of `pvops.cli` that runs them."""
    parser = argparse.ArgumentParser(
        prog="pvops",
        description="What Linux's paravirt patching does to kernel text, reproduced offline, byte for byte.",
        epilog=_EXAMPLES,
        formatter_class=_Formatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    builders = {
        "sites": _sites,
        "ops": _ops,
        "explain": _explain,
        "patch": _patch,
        "diff": _diff,
        "machine": _describe,
    }
    # Building a parser takes longer than most commands: only that of the command given, or all for help and errors.
    asked = argv[0] if argv else ""
    for build in [builders[asked]] if asked in builders else builders.values():
        build(commands)
    return parser.parse_args(argv)


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from pvops import _core

        print(f"pvops {_core.__version__}")
        parser.exit()


TYPE_CHECKING = False
if TYPE_CHECKING:
    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def _command(commands: _Commands, name: str, help_: str, description: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help_, description=description, formatter_class=_Formatter)
    parser.set_defaults(format_="text")
    parser.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="colour (auto: on a terminal; see NO_COLOR)",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="say on stderr what was found and assumed")
    return parser


def _formats(parser: argparse.ArgumentParser, *, rows: bool) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--json", dest="format_", action="store_const", const="json", help="one JSON document")
    if rows:
        group.add_argument("--jsonl", dest="format_", action="store_const", const="jsonl", help="a JSON object a line")
        group.add_argument("--csv", dest="format_", action="store_const", const="csv", help="comma-separated values")


def _html(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "--html", metavar="FILE", help=f"write {what} as one self-contained page, or to standard output with -"
    )


def _names(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-names", dest="names", action="store_false", help="do not look up the image's symbols (faster)"
    )


def _machine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--machine",
        metavar="FACTS",
        help="the machine it boots on: a bundle of facts, JSON or TOML (default: what the backend usually meets)",
    )


def _sites(commands: _Commands) -> None:
    parser = _command(
        commands,
        "sites",
        "list every site the kernel may rewrite",
        "Lists every address the kernel may rewrite, with the rows of all tables that name it: paravirt calls with "
        "their op and its type, alternatives, retpolines, returns, static calls, jump labels and the others.",
    )
    parser.add_argument("kernel", metavar="KERNEL", help=KERNEL)
    parser.add_argument(
        "--table", metavar="NAME", choices=TABLES, help=f"only the rows of this table: {', '.join(TABLES)}"
    )
    parser.add_argument("--op", metavar="OP", help="only sites of this op, as pv_irq_ops.irq_enable")
    parser.add_argument("--summary", action="store_true", help="only the summary")
    _names(parser)
    _formats(parser, rows=True)


def _ops(commands: _Commands) -> None:
    parser = _command(
        commands,
        "ops",
        "show the ops structures",
        "Shows the ops structures as a table: type, offset, op, and what each backend puts there. Of a kernel, or of "
        "an era's headers under a configuration.",
    )
    parser.add_argument("kernel", metavar="KERNEL", nargs="?", help=KERNEL)
    parser.add_argument(
        "--era", metavar="ERA", help="the headers of an era: 2.6.23, seed, 2.6.24, 2.6.33, 5.10, 6.1, 6.12, 7.2"
    )
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
    _machine(parser)
    _formats(parser, rows=True)


def _explain(commands: _Commands) -> None:
    parser = _command(
        commands,
        "explain",
        "say what a site becomes, and why",
        "Says what stands at a site as built, what each pass writes there and why, and what runs in the end.",
    )
    parser.add_argument("kernel", metavar="KERNEL", help=KERNEL)
    parser.add_argument(
        "where",
        metavar="ADDRESS|SYMBOL",
        help="an address (0x…), a range (LOW-HIGH), symbol, symbol+0xOFFSET; a symbol or range: all its sites",
    )
    parser.add_argument(
        "--backend",
        metavar="NAME",
        action="append",
        default=[],
        help="under this backend (default: native); may be repeated",
    )
    _html(parser, "the explanation")
    _machine(parser)
    _formats(parser, rows=False)


def _patch(commands: _Commands) -> None:
    parser = _command(
        commands,
        "patch",
        "write the image as the kernel patches it",
        "Writes the image as it is after boot: every pass that rewrites kernel text, in the order of its era. What "
        "cannot be derived from the image and the machine is a first guess, and is counted.",
    )
    parser.add_argument("kernel", metavar="KERNEL", help=KERNEL)
    parser.add_argument(
        "-o", "--output", metavar="OUT", required=True, help="the file to write, or - for standard output"
    )
    parser.add_argument(
        "--backend",
        metavar="NAME",
        help="native, kvm, xen, xen-hvm, vmware, hyperv (default: what --machine says, else native)",
    )
    parser.add_argument(
        "--format",
        dest="image_format",
        choices=("elf", "text"),
        default="elf",
        help="the whole ELF image, or the raw bytes of .text",
    )
    _machine(parser)
    _formats(parser, rows=False)


def _diff(commands: _Commands) -> None:
    parser = _command(
        commands,
        "diff",
        "say what differs between two boots",
        "Says what differs in a kernel's text between two boots, site by site: the bytes, what they do, and why, on "
        "each side. Exit status 0 where nothing differs, 1 where something does.",
    )
    parser.add_argument("kernel", metavar="KERNEL", help=KERNEL)
    side = "a machine (a bundle of facts, JSON or TOML), a backend's name, or BACKEND:MACHINE"
    parser.add_argument("a", metavar="A", help=side)
    parser.add_argument("b", metavar="B", help="the same, for the other boot")
    parser.add_argument(
        "--machine", metavar="FACTS", help="the machine, where A or B names a backend only (default: the usual guest)"
    )
    parser.add_argument("--summary", action="store_true", help="only the counts and the groups, not each site")
    _html(parser, "the difference")
    _formats(parser, rows=True)


def _describe(commands: _Commands) -> None:
    parser = _command(
        commands,
        "machine",
        "describe this machine or another",
        "Describes this machine, or another from the facts collected on it: what decides how a kernel rewrites itself "
        "there. What -o writes is taken by --machine of the other commands, and gives the same predictions; it holds "
        "the command line and the kernel's log.",
    )
    parser.add_argument(
        "--from", dest="facts", metavar="FACTS", help="another machine: a bundle of facts, JSON or TOML"
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="write the description as JSON, or to standard output with -"
    )
    _formats(parser, rows=False)
