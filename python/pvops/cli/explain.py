"""``pvops explain``: what a site becomes, and why."""

from __future__ import annotations

import argparse
import sys

from pvops.cli import output
from pvops.cli.kernels import machine_of, opened, planned
from pvops.render import explain_text, terminal


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from pvops.plan.explain import explanation

    kernel = opened(args)
    machine = machine_of(args)
    addresses = kernel.sites_of(args.where)
    plans = [planned(args, kernel, name, machine) for name in args.backend or ["native"]]
    explanations = [explanation(kernel, plans, address) for address in addresses]
    if args.html is not None:
        from pvops.render import explain, html

        if args.html == "-" and args.format_ == "json":
            from pvops.errors import OpsError

            raise OpsError("--html - and --json both want standard output; write the page to a file")
        html.write(args.html, explain.page(args.where, explanations))
        if args.html != "-":
            output.note(f"{len(explanations)} {'site' if len(explanations) == 1 else 'sites'} -> {args.html}")
    if args.format_ == "json":
        output.print_json(
            {
                "schema": "pvops.explain/1",
                "kernel": kernel.name,
                "release": kernel.release,
                "where": args.where,
                "passes": [name for name, _ in plans[0].by_pass()],
                "sites": [e.document() for e in explanations],
            }
        )
    elif args.html is None:
        style = terminal.Style(args.color)
        sys.stdout.write("\n\n".join(explain_text.text(e, style) for e in explanations) + "\n")
    return 0
