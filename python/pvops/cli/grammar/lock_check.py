"""The grammar of `pvops lock check`."""

from __future__ import annotations

from pvops.cli.grammar.common import Commands, Formatter, formats, html


def add(commands: Commands, what: str) -> None:
    parser = commands.add_parser(
        "check",
        help=what,
        description="Sees every state that threads on x86-TSO can reach with a lock protocol. Without arguments: every "
        "protocol, and every mutant, in sizes that finish. Exit status 0 where the sound protocols hold and the "
        "mutants are caught, 1 where not.",
        epilog="example:\n  pvops lock check --protocol pv-ticket --mutant missing-fence",
        formatter_class=Formatter,
    )
    parser.set_defaults(command="lock_check", format_="text")
    parser.add_argument("--protocol", metavar="NAME", help="one protocol (pv-ticket, pv-hybrid, xen-byte-2.6.27, …)")
    parser.add_argument(
        "--mutant", metavar="NAME", default="all", help="one bug (missing-fence, …), or none: the sound protocols only"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="how many threads, 1 to 6")
    parser.add_argument("--slots", type=int, metavar="N", help="how many parking slots: 1, 2, 4 or 8")
    parser.add_argument(
        "--acquisitions", type=int, metavar="N", help="how often each thread acquires, 1 to 7 (default: for ever)"
    )
    parser.add_argument(
        "--states", type=int, metavar="N", help="give a case up after this many states (default ten million)"
    )
    traces = parser.add_mutually_exclusive_group()
    traces.add_argument(
        "--trace", action="store_true", default=None, help="show the run that breaks each (default: where only one is)"
    )
    traces.add_argument("--no-trace", dest="trace", action="store_false", help="show the table alone")
    parser.add_argument(
        "--replay", metavar="FILE", help="take the traces of a document that --json printed again, and check nothing"
    )
    parser.add_argument(
        "--color", choices=("auto", "always", "never"), default="auto", help="colour (auto: on a terminal)"
    )
    html(parser, "the table and each run")
    formats(parser, rows=True)
