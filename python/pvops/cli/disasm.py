"""``pvops disasm``: a function as it runs."""

from __future__ import annotations

import argparse

from pvops.cli import output
from pvops.cli.kernels import backends_of, machine_of, opened, places_of, planned, say_assumed, slid, slide_of
from pvops.render import disasm as render
from pvops.render import terminal


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from pvops.plan.listing import instructions

    kernel = opened(args)
    slide = slide_of(args, kernel)
    places = [kernel.whole(place) for place in places_of(kernel, args.function, slide)]
    machine = machine_of(args)
    names = backends_of(args, kernel, machine)
    plans = {name: planned(args, kernel, name, machine) for name in names}
    listings = [(place, {name: instructions(plan, place) for name, plan in plans.items()}) for place in places]
    found = (row for place, listing in listings for row in render.rows(place, listing, slide))
    say_assumed(args, plans[names[0]].machine)
    if args.format_ == "json":
        output.print_json(
            {
                "schema": "pvops.disasm/1",
                "kernel": kernel.name,
                "release": kernel.release,
                "slide": slid(slide),
                "machine": None if (taken := plans[names[0]].machine) is None else taken.name,
                "functions": [
                    {"symbol": place.symbol, "address": terminal.hex_address(place.address), "size": place.size}
                    for place in places
                ],
                "backends": names,
                "instructions": list(found),
            }
        )
    elif args.format_ in ("jsonl", "csv"):
        output.print_rows(args.format_, found, render.COLUMNS)
    else:
        style = terminal.Style(args.color)
        shown = ["\n".join(render.lines(kernel, place, listing, style, slide)) for place, listing in listings]
        output.print_lines(["\n\n".join(shown)])
    return 0
