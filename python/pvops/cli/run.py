"""``pvops run``: guests in an emulator, and what their hypercalls cost."""

from __future__ import annotations

import argparse
from itertools import chain

from pvops.cli import output, pages, runs
from pvops.cli.grammar.run import LOCK_OPTIONS
from pvops.errors import RunError
from pvops.progress import Bar
from pvops.render import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.emulate.guest.program import Program
    from pvops.emulate.job import Job


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    page = pages.wanted(args)
    if args.vcpus is not None:
        from pvops.cli import run_locks

        return run_locks.run(args)
    for name in LOCK_OPTIONS:
        given = getattr(args, name)
        if given is not None and given is not False:
            raise RunError(f"--{name.replace('_', '-')} is for locks on several virtual CPUs: give --vcpus too")
    job = _job(args)
    if args.image is not None:
        return _write_image(args, job)
    from pvops.emulate.job import differing, results
    from pvops.render import run as render

    found = list(Bar("runs done:").of(results(job)))
    wrong = differing(found)
    if page:
        from pvops.render import run_page

        pages.write(args, run_page.page(found, wrong, pages.made(args)), f"{len(found)} runs")
    traces = (render.trace_lines(result) for result in found if args.trace)
    return runs.show(
        args,
        wrong,
        document=lambda: render.document(found, wrong),
        rows=render.rows(found),
        columns=render.COLUMNS,
        lines=chain(render.lines(found, terminal.Style(args.color)), *traces),
    )


def _job(args: argparse.Namespace) -> Job:
    from pvops.emulate.emulator import unicorn

    unicorn()  # whoever has no emulator is told before anything is assembled
    from pvops.emulate.cpu import Limits
    from pvops.emulate.guest import shipped, wide
    from pvops.emulate.job import Job

    both = (False, True)
    if args.instructions <= 0:
        raise RunError(f"--instructions {args.instructions}: at least one")
    # The tour on x86-64 calls every op, and none is configured out.
    names = shipped.NAMES if args.without else (*shipped.NAMES, wide.NAME)
    return Job(
        [_program(name) for name in args.guest or names],
        tuple(args.era),
        tuple(args.backend),
        both if args.patched is None else (args.patched,),
        both if args.lazy is None else (args.lazy,),
        nops=args.nops or "k8",
        without=[f"PARAVIRT_{name.upper()}" for name in args.without],
        length=args.length,
        trace=args.trace,
        limits=Limits(instructions=args.instructions),
    )


def _program(name: str) -> Program | str:
    """A guest that is shipped, or the one that a Python file defines."""
    from pvops.emulate.guest import shipped, wide

    if name == wide.NAME:
        return name
    if not name.endswith(".py"):
        return shipped.program(name)
    import runpy

    from pvops.emulate.guest.program import Program

    try:
        found = runpy.run_path(name).get("program")
    except OSError as error:
        raise RunError(f"{name}: cannot read: {error.strerror}", file=name) from error
    except (Exception, SystemExit) as error:
        raise RunError(f"{name}: {type(error).__name__}: {error}", file=name) from error
    if not isinstance(found, Program):
        raise RunError(f"{name}: defines no `program`, a pvops.run.Program", file=name)
    return found


def _write_image(args: argparse.Namespace, job: Job) -> int:
    import pvops._core as _core
    from pvops.emulate.job import images

    built = list(images(job))
    if len(built) != 1:
        raise RunError(f"--image is for one guest of one era, not {len(built)}")
    _core.write_file(args.image, built[0].built.elf)
    output.note(f"{built[0].name}, {built[0].era} -> {args.image}")
    return 0
