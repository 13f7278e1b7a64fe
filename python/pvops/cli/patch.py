"""``pvops patch``: the image as the kernel patches it."""

from __future__ import annotations

import argparse
import sys

from pvops.cli import output
from pvops.cli.kernels import machine_of, opened, planned
from pvops.errors import InputError, OpsError


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    to_stdout = args.output == "-"
    if to_stdout and args.format_ == "json":
        raise OpsError("-o - and --json both want standard output; write the image to a file")
    if to_stdout and sys.stdout.isatty():
        raise InputError("standard output is a terminal, and the image is binary; use -o FILE or a pipe")
    kernel = opened(args)
    machine = machine_of(args)
    name = args.backend or (machine.backend.value if machine else None) or "native"
    plan = planned(args, kernel, name, machine)
    if to_stdout:
        sys.stdout.buffer.write(plan.apply() if args.image_format == "text" else plan.image())
        sys.stdout.buffer.flush()
    else:
        plan.save(args.output, args.image_format)
    kinds = plan.by_kind()
    if args.format_ == "json":
        output.print_json(
            {
                "schema": "pvops.patch/1",
                "kernel": kernel.name,
                "release": kernel.release,
                "backend": name,
                "rules": plan.rules.era,
                "nops": plan.nops.table,
                "passes": ["paravirt"],
                "output": args.output,
                "format": args.image_format,
                "writes": len(plan),
                "kinds": dict(kinds),
            }
        )
    else:
        what = ", ".join(f"{n} {kind}" for kind, n in kinds)
        output.note(f"{kernel.release or kernel.name} on {name}: {len(plan)} paravirt sites: {what} -> {args.output}")
        output.note("the paravirt pass only: alternatives and the other passes are not applied by this version")
    return 0
