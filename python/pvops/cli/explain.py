"""``pvops explain``: what a site becomes, and why."""

from __future__ import annotations

import argparse

from pvops.cli import output, pages
from pvops.cli.kernels import backends_of, machine_of, opened, places_of, planned, say_assumed, slid, slide_of
from pvops.render import explain_text, terminal


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from pvops.plan.explain import explanations

    page = pages.wanted(args)
    kernel = opened(args)
    slide = slide_of(args, kernel)
    places = places_of(kernel, args.where, slide)
    machine = machine_of(args)
    # The document names all passes that write anything.
    asked = None if args.format_ == "json" else places
    plans = [planned(args, kernel, name, machine, asked) for name in backends_of(args, kernel, machine)]
    found = explanations(kernel, plans, places, slide)
    if page:
        from pvops.render import explain

        made = pages.made(args, plans[0].machine)
        count = f"{len(found)} {'site' if len(found) == 1 else 'sites'}"
        pages.write(args, explain.page(kernel, args.where, found, made), count)
    if args.format_ == "json":
        output.print_json(
            {
                "schema": "pvops.explain/1",
                "kernel": kernel.name,
                "release": kernel.release,
                "where": args.where,
                "slide": slid(slide),
                "machine": None if plans[0].machine is None else plans[0].machine.name,
                "places": [
                    {"symbol": place.symbol, "address": terminal.hex_address(place.address), "size": place.size}
                    for place in places
                ],
                "passes": [name for name, _ in plans[0].by_pass()],
                "sites": [e.document() for e in found],
            }
        )
    text = ""
    if args.format_ != "json" and not page:
        text = explain_text.of_places(kernel, places, found, terminal.Style(args.color), slide)
        output.print_lines([text])
    say_assumed(args, plans[0].machine, text)
    return 0
