"""``pvops run --vcpus N``: locks on several virtual CPUs."""

from __future__ import annotations

import argparse
from itertools import chain

from pvops.cli import output, pages, runs
from pvops.errors import RunError
from pvops.progress import Bar
from pvops.render import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.emulate.smp.job import LockJob


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    job = _job(args)
    from pvops.emulate.smp.job import differing, results
    from pvops.render import locks_text
    from pvops.render import run_locks as render

    found = list(Bar("runs done:").of(results(job)))
    if (pcpus := job.setting.pcpus) > job.vcpus:
        output.note(f"--pcpus {pcpus}: {job.vcpus} virtual CPUs use no more than {job.vcpus}, the others stay idle")
    wrong = differing(found)
    if args.html is not None:
        from pvops.render import run_locks_page

        pages.write(args, run_locks_page.page(found, wrong, pages.made(args)), f"{len(found)} runs")
    traces = (chain([""], render.trace_lines(result)) for result in found if args.trace)
    pictures = (chain([""], locks_text.picture(result)) for result in found if args.gantt)
    return runs.show(
        args,
        wrong,
        document=lambda: render.document(found, wrong),
        rows=render.rows(found),
        columns=render.COLUMNS,
        lines=chain(render.lines(found, terminal.Style(args.color)), *traces, *pictures),
    )


def _job(args: argparse.Namespace) -> LockJob:
    from pvops.emulate.emulator import unicorn

    unicorn()
    from pvops.emulate.guest import locks
    from pvops.emulate.guest.locks.code import CPUS
    from pvops.emulate.smp.job import LockJob
    from pvops.emulate.smp.setting import Setting

    if not 1 <= args.vcpus <= CPUS:
        raise RunError(f"--vcpus {args.vcpus}: 1 to {CPUS}")
    if args.bits not in (None, 32, 64):
        raise RunError(f"--bits {args.bits}: 32 or 64")
    if args.user and args.bits == 32:
        raise RunError("--user: system calls by `syscall` are of x86-64, not --bits 32")
    if args.schedules is not None and not 1 <= args.schedules < 1 << 31:
        raise RunError(f"--schedules {args.schedules}: at least one, and fewer than 2,147,483,648")
    if args.era or args.without or args.length or args.image or args.nops or args.lazy is not None:
        raise RunError(
            "--era, --without, --length, --image, --nops and lazy mode are for guests on one CPU, not with --vcpus"
        )
    if args.tick_sleepers and not args.tick:
        raise RunError("--tick-sleepers: there are no ticks without --tick CYCLES")
    mutant = None if args.mutant == "none" else args.mutant
    names = args.guest or (locks.NAMES if mutant in (None, locks.ALL) else locks.having(mutant))
    for name in names:
        locks.protocol(name)
    args.buffers = args.store_buffers
    args.pcpus = args.pcpus if args.pcpus is not None else max(args.vcpus // 2, 1)
    given = {name: value for name in Setting._fields if (value := getattr(args, name, None)) is not None}
    return LockJob(
        names,
        tuple(args.backend),
        args.vcpus,
        Setting(most=args.instructions, **given),
        schedules=args.schedules or 1,
        bits=(64,) if args.user else (32, 64) if args.bits is None else (args.bits,),
        patched=(False, True) if args.patched is None else (args.patched,),
        threshold=16 if args.threshold is None else args.threshold,
        mutant=mutant,
        record=args.trace or args.gantt or args.html is not None,
    )
