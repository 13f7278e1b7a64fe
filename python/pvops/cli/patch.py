"""``pvops patch``: the image as the kernel patches it."""

from __future__ import annotations

import argparse
import sys

from pvops.cli import output
from pvops.cli.kernels import backend_of, machine_of, opened, planned, say_assumed, slid, slide_of
from pvops.errors import InputError, OpsError
from pvops.render import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.decide.prediction import Feature
    from pvops.plan.plan import Plan


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    to_stdout = args.output == "-"
    if to_stdout and args.format_ == "json":
        raise OpsError("-o - and --json both want standard output; write the image to a file")
    if to_stdout and sys.stdout.isatty():
        raise InputError("standard output is a terminal, and the image is binary; use -o FILE or a pipe")
    kernel = opened(args)
    output.writable(args.output)
    machine = machine_of(args)
    slide = slide_of(args, kernel)
    if slide:
        kernel = kernel.moved(slide)
        if machine is not None and not isinstance(machine, str) and machine.state is not None:
            machine = machine._replace(state=machine.state.moved(slide, kernel.bits))
    name = args.backend or backend_of(kernel, machine)
    plan = planned(args, kernel, name, machine)
    if to_stdout:
        sys.stdout.buffer.write(plan.apply() if args.image_format == "text" else plan.image(args.image_format))
        sys.stdout.buffer.flush()
    else:
        plan.save(args.output, args.image_format)
    if args.format_ == "json":
        output.print_json(_document(args, plan, slide))
    else:
        _say(args, plan)
        say_assumed(args, plan.machine)
    return 0


def _document(args: argparse.Namespace, plan: Plan, slide: int) -> dict[str, object]:
    kernel, undetermined = plan.kernel, plan.undetermined_bytes.sites(*_range(args, plan))
    return {
        "schema": "pvops.patch/1",
        "kernel": kernel.name,
        "release": kernel.release,
        "backend": plan.backend.name,
        "machine": None if plan.machine is None else plan.machine.name,
        "slide": slid(slide),
        "rules": plan.rules.passes,
        "nops": plan.nops.table,
        "passes": [name for name, _ in plan.by_pass()],
        "output": args.output,
        "format": args.image_format,
        "writes": sum(n for _, n in plan.by_pass()),
        "by_pass": dict(plan.by_pass()),
        "kinds": dict(plan.by_kind()),
        "assumed_features": [feature.name.name for feature in _assumed(plan)],
        "undetermined": {
            "bytes": sum(site[1] for site in undetermined),
            "sites": [
                {
                    "address": terminal.hex_address(address),
                    "len": length,
                    "table": table,
                    "index": -1 if row is None else row,
                    "forms": forms,
                }
                for address, length, table, row, forms in undetermined
            ],
        },
    }


def _range(args: argparse.Namespace, plan: Plan) -> tuple[int, int | None]:
    """The addresses of what is written: of ``.text`` alone, or of all code."""
    if args.image_format != "text":
        return 0, None
    low, size = next((a, s) for name, a, s, _ in plan.kernel.image.sections() if name == ".text")
    return low, low + size


def _assumed(plan: Plan) -> list[Feature]:
    """The features that rows ask for and that nothing tells; what a kernel held on the machine tells all."""
    words, state = plan.setup.words, plan.setup.machine.state
    return words.unknown() if words is not None and state is None else []


#: Options by which functions are traced from the boot on (kernel/trace: trace.c, trace_stack.c, trace_kprobe.c).
_TRACERS = ("ftrace", "stacktrace", "kprobe_event")


def _tracers(plan: Plan) -> list[str]:
    machine = plan.setup.machine
    given = [name for name in _TRACERS if machine.has_option(name)]
    return [name for name in given if name != "ftrace" or machine.option(name) not in ("nop", "blk", "mmiotrace")]


def _say(args: argparse.Namespace, plan: Plan) -> None:
    kernel = plan.kernel
    if tracers := _tracers(plan):
        what = f"{', '.join(tracers)} on the command line: what tracers and probes write is not planned"
        output.note(f"{what} (`pvops verify --allow ftrace --allow kprobes` explains it)")
    passes = ", ".join(f"{name} {n}" for name, n in plan.by_pass())
    output.note(f"{kernel.release or kernel.name} on {plan.backend.name}: {passes} -> {args.output}")
    count, sites, tables = plan.undetermined_bytes.totals(*_range(args, plan))
    if sites:
        output.note(f"{count} bytes at {sites} sites are a first guess ({', '.join(tables)}); --json lists their forms")
    if unknown := _assumed(plan):
        named = ", ".join(f"{'' if feature.guess else 'no '}{feature.name.name}" for feature in unknown[:6])
        more = f" and {len(unknown) - 6} more" if len(unknown) > 6 else ""
        output.note(
            f"features the machine does not tell, assumed: {named}{more} (`pvops machine --collect` settles them)"
        )
