"""The grammar of `pvops lock simulate`."""

from __future__ import annotations

import argparse

from pvops.cli.grammar.common import Commands, command, formats

_EXAMPLES = """\
A time is a number of µs, constant, or KIND:MEAN, KIND one of constant, exponential, uniform (0 to twice the mean).
Several values of an option are simulated one by one, in all combinations.

examples:
  pvops lock simulate
  pvops lock simulate --protocol ticket-2.6.25 pv-ticket --vcpus 8 16 24 32 --plot throughput.svg
  pvops lock simulate --protocol ticket-2.6.25 --vcpus 16 --plot-gantt holder.png
  pvops lock simulate --protocol pv-ticket --threshold-us 1 10 100 never --think constant:20 --json
"""


def add(commands: Commands, what: str) -> None:
    parser = command(
        commands,
        "simulate",
        "Simulates virtual CPUs that share locks on too few physical CPUs: where their time goes, how long they wait, "
        "how fair it is. Without options, the standard sweep, and published figures beside it.",
    )
    parser.epilog = _EXAMPLES
    parser.set_defaults(command="lock_simulate")
    several = {"nargs": "+", "default": None}
    parser.add_argument("--protocol", metavar="NAME", help="lock protocols; or all", **several)
    parser.add_argument(
        "--threshold-us", metavar="T", help="how long a waiter spins before it blocks; or never, or usual", **several
    )
    parser.add_argument("--vcpus", metavar="N", type=int, help="virtual CPUs, of all machines together", **several)
    parser.add_argument("--pcpus", metavar="N", type=int, help="physical CPUs", **several)
    parser.add_argument("--vms", metavar="N", type=int, help="virtual machines, each with locks of its own", **several)
    parser.add_argument("--locks", metavar="N", type=int, help="locks of a virtual machine", **several)
    parser.add_argument("--scheduler", metavar="NAME", help="round-robin, credit, gang", **several)
    parser.add_argument("--seed", metavar="N", type=int, help="of all that is drawn", **several)
    parser.add_argument("--ticket-bits", metavar="N", type=int, help="width of a ticket: 8, 16, 32", **several)
    parser.add_argument("--duration", metavar="S", type=float, help="seconds simulated", **several)
    parser.add_argument("--think", metavar="TIME", help="from giving a lock back to asking for the next", **several)
    parser.add_argument("--hold", metavar="TIME", help="how long a lock is held", **several)
    for name, help_ in (
        ("slice", "the scheduler's slice"),
        ("switch", "cost of a context switch"),
        ("kick", "cost of a kick"),
        ("exit", "cost of leaving the guest, to block or yield"),
        ("patience", "pv-hybrid hands over directly from this wait on"),
    ):
        parser.add_argument(f"--{name}-us", metavar="T", type=float, help=help_, **several)
    parser.add_argument("--ple-us", metavar="T", help="pause-loop exiting after so much spinning; or never", **several)
    parser.add_argument("--irq-interval", metavar="TIME", help="interrupts, so much guest time apart", **several)
    parser.add_argument("--irq-hold", metavar="TIME", help="how long their handlers hold their lock", **several)
    parser.add_argument("--jobs", metavar="N", type=int, help="processes (default: one for each CPU)")
    _plots(parser)
    formats(parser, rows=True)


def _plots(parser: argparse.ArgumentParser) -> None:
    for name, help_ in (
        ("--plot", "draw throughput against over-commitment, as .svg, .png or .pdf"),
        ("--plot-waits", "draw how long was waited"),
        ("--plot-gantt", "draw what ran where around one lock holder that lost its CPU (of the first case)"),
    ):
        parser.add_argument(name, metavar="FILE", help=help_)
