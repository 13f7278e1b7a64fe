"""The grammar of `pvops lock simulate`."""

from __future__ import annotations

import argparse

from pvops.cli.grammar.common import Commands, Formatter, formats, html

_EXAMPLES = """\
A time is a number of µs, constant, or KIND:MEAN in µs, KIND one of constant,
exponential, uniform (0 to twice the mean). Several values of an option
are simulated one by one, in all combinations.

examples:
  pvops lock simulate
  pvops lock simulate --protocol pv-ticket --vcpus 8 16 32 --plot s.svg
  pvops lock simulate --protocol pv-ticket --vcpus 16 --plot-gantt holder.png
  pvops lock simulate --threshold-us 1 10 never --think constant:20 --json
"""


#: (option, what stands for its values, their type, help, what it is where another option is given and this is not)
PARAMETERS: tuple[tuple[str, str, type, str, str], ...] = (
    ("protocol", "NAME", str, "lock protocols; or all", "all"),
    ("threshold-us", "T", str, "µs that a waiter spins before it blocks; or never, or usual: the protocol's", "usual"),
    ("vcpus", "N", int, "virtual CPUs, of all machines together", "16"),
    ("pcpus", "N", int, "physical CPUs", "8"),
    ("vms", "N", int, "virtual machines, each with locks of its own", "1"),
    ("locks", "N", int, "locks of a virtual machine", "1"),
    ("scheduler", "NAME", str, "round-robin, credit, gang", "credit"),
    ("seed", "N", int, "of all that is drawn", "1"),
    ("duration", "S", float, "seconds simulated", "1"),
    ("think", "TIME", str, "from giving a lock back to asking for the next", "exponential:20"),
    ("hold", "TIME", str, "how long a lock is held", "exponential:0.5"),
    ("slice-us", "T", float, "the scheduler's slice, µs", "6000"),
    ("switch-us", "T", float, "cost of a context switch, µs", "1.5"),
    ("kick-us", "T", float, "cost of a kick, µs", "5"),
    ("exit-us", "T", float, "cost of leaving the guest, to block or yield, µs", "1"),
    ("ple-us", "T", str, "pause-loop exiting after so many µs of spinning; or never", "never"),
    ("patience-us", "T", float, "pv-hybrid hands over directly from this wait on, µs", "1000"),
    ("irq-interval", "TIME", str, "interrupts, so much guest time apart", "none"),
    ("irq-hold", "TIME", str, "how long their handlers hold a lock of their own", "constant:1"),
    ("ticket-bits", "N", int, "width of a ticket: 8, 16, 32", "what suffices"),
)


def add(commands: Commands, what: str) -> None:
    parser = commands.add_parser(
        "simulate",
        help=what,
        description="Simulates virtual CPUs that share locks on too few physical CPUs: where their time goes, how long "
        "they wait, how fair it is. Without options, the standard sweep, and published figures beside it.",
        epilog=_EXAMPLES,
        formatter_class=Formatter,
    )
    parser.set_defaults(command="lock_simulate", format_="text")
    parser.add_argument(
        "--color", choices=("auto", "always", "never"), default="auto", help="colour (auto: on a terminal)"
    )
    for name, metavar, kind, help_, default in PARAMETERS:
        help_ += f" (default {default})"
        parser.add_argument(f"--{name}", metavar=metavar, type=kind, nargs="+", action="extend", help=help_)
    parser.add_argument("--jobs", metavar="N", type=int, help="processes (default: one for each CPU)")
    _plots(parser)
    html(parser, "where the time went")
    formats(parser, rows=True)


def _plots(parser: argparse.ArgumentParser) -> None:
    for name, help_ in (
        ("--plot", "draw throughput against over-commitment, as .svg, .png or .pdf"),
        ("--plot-waits", "draw how long was waited"),
        ("--plot-gantt", "draw what ran where around one lock holder that lost its CPU (of the first case)"),
    ):
        parser.add_argument(name, metavar="FILE", help=help_)
