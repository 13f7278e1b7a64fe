"""``pvops verify``: every byte of a kernel's text in memory, explained or not."""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial

from pvops.cli import output, pages
from pvops.cli.kernels import told_machine
from pvops.errors import Error, OpsError
from pvops.progress import Bar
from pvops.render import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.kernel import Kernel
    from pvops.verify.report import Report

#: The exit status where something is unexplained, or could not be read.
UNEXPLAINED = 1
TROUBLE = 2


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from pvops.image import memory

    paths = _paths(args)
    page = pages.wanted(args)
    if args.save_machine is not None:
        output.writable(args.save_machine)
    kernel = _opened(args)
    if not args.live and (len(paths) != 1 or os.path.isdir(args.memory[0])):
        return _many(args, kernel, paths)
    source = memory.live() if args.live else memory.open_stdin() if paths == ["-"] else memory.open(paths[0])
    with Bar("looking for the kernel") as bar:
        report = kernel.verify(
            source,
            machine=told_machine(args),
            allow=args.allow,
            modules=args.module,
            progress=bar,
            jobs=args.jobs,
        )
    if args.save_machine is not None:
        _save(args.save_machine, report)
    if page:
        from pvops.render import verify as render

        machine = None if args.machine is None else told_machine(args)
        pages.write(args, render.page(report, pages.made(args, machine or "machine inferred")), "report")
    if args.format_ == "json":
        output.print_json(report.to_dict())
    elif pages.text_too(args):
        from pvops.render import verify_text

        output.print_lines(verify_text.lines(report, terminal.Style(args.color), args.verbose))
    return 0 if report else UNEXPLAINED


def _opened(args: argparse.Namespace) -> Kernel:
    from pvops.cli.kernels import opened
    from pvops.image import memory

    if args.kernel is None:
        args.kernel = memory.running_kernel()
    return opened(args)


def _paths(args: argparse.Namespace) -> list[str]:
    """The dumps to judge."""
    if args.live:
        if args.memory:
            raise OpsError("--live and a dump are two memories; one is wanted")
        return ["live"]
    if args.kernel is None or not args.memory:
        raise OpsError("a kernel and its memory are wanted: pvops verify KERNEL MEMORY, or pvops verify --live")
    paths: list[str] = []
    for given in args.memory:
        if os.path.isdir(given):
            inside = sorted(entry.path for entry in os.scandir(given) if entry.is_file())
            if not inside:
                raise OpsError(f"{given}: a directory without files")
            paths += inside
        else:
            paths.append(given)
    return paths


def _save(path: str, report: Report) -> None:
    import json

    import pvops._core as _core

    text = (json.dumps(report.machine, indent=1) + "\n").encode()
    if path == "-":
        raise OpsError("--save-machine wants a file: standard output has the report")
    _core.write_file(path, text)
    output.note(f"machine -> {path}")


def _many(args: argparse.Namespace, kernel: Kernel, paths: list[str]) -> int:
    """Several dumps: a line or a document each; the status is the worst."""
    if args.html is not None or args.save_machine is not None:
        raise OpsError("--html and --save-machine are about one memory, not several")
    if args.module:
        raise OpsError("--module is about one memory, not several")
    from pvops.verify.many import made_of_many

    as_json = args.format_ == "json"
    made = _document if as_json else partial(_lines, terminal.Style(args.color), args.verbose)
    status, behind = 0, ""
    for path, result in made_of_many(kernel, paths, made, machine=told_machine(args), allow=args.allow, jobs=args.jobs):
        if isinstance(result, Error):
            status = TROUBLE
            output.note(str(result))
            if not as_json:
                continue
            text = output.json_text({"memory": path} | output.error_document(result), _WITHIN)
        else:
            clean, text = result
            status = max(status, 0 if clean else UNEXPLAINED)
        if as_json:
            sys.stdout.write((behind or _HEAD) + _WITHIN + text)
            behind = ","
        else:
            output.print_lines([terminal.printable(path), text.removesuffix("\n")])
    if as_json:
        sys.stdout.write("\n ]\n}\n")
    return status


#: The document of several dumps before the first, and what begins a line of one.
_HEAD = '{\n "schema": "pvops.verify-many/1",\n "reports": ['
_WITHIN = "\n  "


def _document(report: Report) -> tuple[bool, str]:
    """Whether a report is clean, and its document; made where the memory is judged."""
    return bool(report), output.json_text(report.to_dict(), _WITHIN)


def _lines(style: terminal.Style, verbose: bool, report: Report) -> tuple[bool, str]:
    """Whether a report is clean, and what a person reads of it."""
    from pvops.render import verify_text

    return bool(report), "".join(f"  {line}\n" for line in verify_text.lines(report, style, verbose))
