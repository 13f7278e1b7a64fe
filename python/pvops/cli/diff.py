"""``pvops diff``: what differs between two boots."""

from __future__ import annotations

import argparse
import os
import sys

from pvops.cli import output, pages
from pvops.cli.kernels import backend_of, machine_in, machine_of, opened, planned, say_assumed
from pvops.errors import Error, InputError
from pvops.progress import Bar
from pvops.render import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.kernel import Kernel
    from pvops.machine.machine import Machine

#: The exit status where something differs.
DIFFERS = 1


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from pvops.plan.diff import compare
    from pvops.render import diff as render

    output.refuse_summary_of_rows(args)
    page = pages.wanted(args)
    try:
        named = _named(args.a), _named(args.b)
    except Error as error:
        if not os.path.exists(args.kernel) and any(os.path.isfile(side) for side in (args.a, args.b)):
            raise InputError(f"{args.kernel}: no such file (the kernel comes first, then the two sides)") from error
        raise
    kernel = opened(args)
    sides = _side(args, kernel, named[0]), _side(args, kernel, named[1])
    plans = [planned(args, kernel, backend, machine) for _, backend, machine in sides]
    with Bar("comparing sites") as bar:
        comparison = compare(plans[0], plans[1], (sides[0][0], sides[1][0]), bar)
        differs = len(comparison.sites)
    if page:
        machines = " against ".join(dict.fromkeys(plan.machine.name for plan in plans if plan.machine is not None))
        made = pages.made(args, machines or None)
        pages.write(args, render.page(comparison, made), render.count(differs))
    written = Bar("writing sites")
    if args.format_ == "json":
        output.print_json(render.document(comparison, args.summary, written))
    elif args.format_ in ("jsonl", "csv"):
        rows = render.rows(comparison)
        output.print_rows(args.format_, rows if sys.stdout.isatty() else written.of(rows, differs), render.COLUMNS)
    elif pages.text_too(args):
        style = terminal.Style(args.color)
        output.print_lines(render.summary(comparison, style))
        # A page has each site already: beside it, only the summary is printed.
        output.print_lines(render.group_lines(comparison, style, sites=not args.summary and not page))
    for (name, backend, _), plan in zip(sides, plans, strict=True):
        if name == backend:
            say_assumed(args, plan.machine)
            break
    return DIFFERS if differs else 0


def _named(given: str) -> tuple[str, str, Machine | str | None]:
    """What an argument names: (what to call it, backend, machine); the backend is empty where the machine tells, and
    there is no machine where a backend alone is named."""
    from pvops.machine.presets import BASELINE
    from pvops.plan.sides import parse

    found = parse(given)
    if found.machine is None or found.machine == BASELINE:
        return found
    machine = machine_in(found.machine)
    name = os.path.basename(found.machine)
    return (f"{found.backend}:{name}" if found.backend else name), found.backend, machine


def _side(
    args: argparse.Namespace, kernel: Kernel, named: tuple[str, str, Machine | str | None]
) -> tuple[str, str, Machine | str | None]:
    """What to call a side, its backend and its machine."""
    name, backend, machine = named
    if machine is None:
        return name, backend, machine_of(args)
    return name, backend or backend_of(kernel, machine), machine
