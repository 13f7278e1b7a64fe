"""``pvops verify``: every byte of a kernel's text in memory, explained or not."""

from __future__ import annotations

import argparse
import os
import sys

from pvops.cli import output, pages
from pvops.cli.kernels import told_machine
from pvops.errors import Error, OpsError
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
    bar = memory.bar("looking for the kernel") if args.format_ == "text" else None
    report = kernel.verify(source, machine=told_machine(args), allow=args.allow, modules=args.module, progress=bar)
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

        sys.stdout.write("\n".join(verify_text.lines(report, terminal.Style(args.color), args.verbose)) + "\n")
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
    from pvops.render import verify_text

    style = terminal.Style(args.color)
    status, documents = 0, []
    for path, result in kernel.verify_many(paths, machine=told_machine(args), allow=args.allow):
        if isinstance(result, Error):
            status = TROUBLE
            documents.append({"memory": path} | output.error_document(result))
            output.note(str(result))
            continue
        status = max(status, 0 if result else UNEXPLAINED)
        documents.append(result.to_dict())
        if args.format_ == "text":
            sys.stdout.write(f"{path}\n")
            sys.stdout.write("".join(f"  {line}\n" for line in verify_text.lines(result, style, args.verbose)))
    if args.format_ == "json":
        output.print_json({"schema": "pvops.verify-many/1", "reports": documents})
    return status
