"""The grammar of `pvops lock bench`."""

from __future__ import annotations

from pvops.cli.grammar.common import Commands, Formatter, formats

_EXAMPLES = """\
examples:
  pvops lock bench
  pvops lock bench --threads 16 --cpus 2 --rounds 15 --json
  pvops lock bench --lock pvops::PvTicketLock --threads 4 8 16
"""


def add(commands: Commands, what: str) -> None:
    parser = commands.add_parser(
        "bench",
        help=what,
        description="Measures the locks on this machine, beside those that people use and beside the machine's own "
        "limits, in interleaved rounds. Without options: one thread, 2 to 16 on two CPUs, 8 on one CPU.",
        formatter_class=Formatter,
    )
    parser.epilog = _EXAMPLES
    parser.set_defaults(command="lock_bench", format_="text")
    parser.add_argument(
        "--color", choices=("auto", "always", "never"), default="auto", help="colour (auto: on a terminal)"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="say on stderr what is being measured")
    parser.add_argument(
        "--threads",
        metavar="N",
        type=int,
        nargs="+",
        action="extend",
        help="threads that share the lock (default 2 4 8 16)",
    )
    parser.add_argument("--cpus", metavar="N", type=int, help="CPUs that they run on (default 2)")
    parser.add_argument(
        "--section-ns", metavar="NS", type=int, default=100, help="how long each holds it, in ns (default 100)"
    )
    parser.add_argument(
        "--pause-ns", metavar="NS", type=int, default=100, help="and does something else, in ns (default 100)"
    )
    parser.add_argument(
        "--lock", metavar="PATH", action="append", help="only this lock, by its Rust path; may be repeated"
    )
    parser.add_argument("--rounds", metavar="N", type=int, default=5, help="interleaved rounds (default 5)")
    parser.add_argument(
        "--seconds", metavar="S", type=float, default=0.18, help="seconds of a measurement (default 0.18)"
    )
    formats(parser, rows=True)
