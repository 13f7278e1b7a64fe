"""``pvops bench``: what a call site costs here."""

from __future__ import annotations

import argparse

from pvops.cli import output, pages
from pvops.cli.kernels import opened
from pvops.progress import Bar
from pvops.render import terminal

#: The exit status where the checks of the method fail.
DISTRUSTED = 1


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from pvops import bench
    from pvops.render import bench as render

    page = pages.wanted(args)
    if args.machine is not None and args.kernel is None:
        from pvops.errors import UsageError

        raise UsageError("--machine is for --kernel: costs are measured on the machine this runs on")
    if args.cpu is not None and args.cpu < 0:
        from pvops.errors import ExecutionError

        raise ExecutionError(f"there is no CPU {args.cpu}")
    if args.plot is not None:
        from pvops.render.bench_plot import check

        check(args.plot)
        output.writable(args.plot)
    # What may be wrong with the arguments shows before the seconds of measuring.
    kernel = opened(args) if args.kernel is not None else None
    if kernel is not None:
        kernel.ops.require()
        _ = kernel.rules
    with Bar("measuring") as bar:
        found = bench.measure(args.seconds, cpu=args.cpu, progress=bar)
    estimate = None if kernel is None else bench.estimate(kernel, found, machine=args.machine)
    if args.plot is not None:
        found.plot(args.plot)
    if page:
        made = pages.made(args, f"{found.cpu_model}, CPU {found.cpu}")
        pages.write(args, render.page(found, estimate, made), f"{len(list(found))} forms")
    if args.format_ == "json":
        document = found.document()
        if estimate is not None:
            document["kernel"] = estimate.document()
        output.print_json(document)
    elif args.format_ in ("jsonl", "csv"):
        output.print_rows(args.format_, (form.document() for form in found), render.COLUMNS)
    elif pages.text_too(args):
        style = terminal.Style(args.color)
        lines = render.lines(found, style, args.verbose)
        if estimate is not None:
            lines += ["", *render.kernel_lines(estimate, style)]
        output.print_lines(lines)
    for check_ in found.checks:
        if not check_.holds:
            output.note(f"do not trust this: {check_.check} is {check_.measured:.3g}, not {check_.must}")
    return 0 if found.trusted else DISTRUSTED
