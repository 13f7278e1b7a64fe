"""``pvops explain``: what a site becomes, and why."""

from __future__ import annotations

import argparse
import sys

from pvops.cli import output
from pvops.cli.kernels import machine_of, opened, planned


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from pvops.explain import explanation

    kernel = opened(args)
    machine = machine_of(args)
    addresses = kernel.sites_of(args.where)
    plans = [planned(args, kernel, name, machine) for name in args.backend or ["native"]]
    explanations = [explanation(kernel, plans, address) for address in addresses]
    if args.format_ == "json":
        output.print_json(
            {
                "schema": "pvops.explain/1",
                "kernel": kernel.name,
                "release": kernel.release,
                "where": args.where,
                "passes": ["paravirt"],
                "sites": [e.document() for e in explanations],
            }
        )
    else:
        style = output.Style(args.color)
        sys.stdout.write("\n\n".join(e.text(style) for e in explanations) + "\n")
        if sys.stdout.isatty() or args.verbose:
            output.note(
                "the paravirt pass only: where another table names the address too, that pass may have the last word"
            )
    return 0
