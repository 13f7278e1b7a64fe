"""The grammar of `pvops corpus`."""

from __future__ import annotations

from pvops.cli.grammar.common import Commands, command, formats, jobs


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "corpus",
        "Opens every kernel in a folder and below it, reads its tables, and holds it to the boots beside it: files "
        "NAME~MODE.json with .runs.xz or .text, and .facts (docs/kernels-held-to.md tells of them). Exit status 0 "
        "where every byte of each boot is predicted and explained, 1 where not, or where a kernel is refused. Rows are "
        "boots, and kernels without any.",
    )
    parser.add_argument("folder", metavar="DIR", help="a folder of kernels: vmlinuz of any compression, or vmlinux")
    parser.add_argument(
        "--boots", metavar="DIR", action="append", default=[], help="look here for boots too; may be repeated"
    )
    jobs(parser, "processes")
    formats(parser, rows=True)
