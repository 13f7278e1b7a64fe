"""drgn: ``verify(prog)``, and the command ``%pvops`` where drgn has commands; drgn finds this module by itself.

::

    import drgn, pvops.drgn

    prog = drgn.Program()
    prog.set_core_dump("vmcore")
    report = pvops.drgn.verify(prog, "/boot/vmlinuz-6.1.0-56-amd64")

Memory is what drgn reads: its page tables, its formats, live kernels too.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from os import PathLike
from typing import Any

import pvops
from pvops.errors import DumpError, Error, OpsError
from pvops.verify.report import OWNERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    import drgn

    from pvops.kernel import Kernel
    from pvops.machine.machine import Machine
    from pvops.verify.report import Report


def verify(
    prog: drgn.Program,
    kernel: Kernel | str | PathLike[str] | None = None,
    *,
    machine: Machine | str | PathLike[str] | None = None,
    allow: Iterable[str] = (),
    modules: Iterable[str | PathLike[str]] = (),
) -> Report:
    """Explains every byte of the kernel's text in the memory of a program that drgn debugs.

    Args:
        prog: a core dump or a live kernel.
        kernel: the image that was booted, open or its path; without one the debug vmlinux that drgn has loaded.
        machine: as in `pvops.kernel.Kernel.verify`.
        allow: likewise.
        modules: likewise.

    Raises:
        OpsError: no kernel is given, and drgn has loaded none.
        InputError: the kernel cannot be read.
        DumpError: this kernel is not in the memory; the message says what is.
    """
    if kernel is None:
        kernel = _loaded(prog)
    opened = pvops.open(kernel) if isinstance(kernel, str | PathLike) else kernel
    memory = pvops.memory.open(_reader(prog, opened.bits))
    return opened.verify(memory, machine=machine, allow=allow, modules=modules)


def _loaded(prog: drgn.Program) -> str:
    """The file of the kernel's symbols that drgn has loaded."""
    try:
        module = prog.main_module()
    except LookupError:
        raise OpsError("drgn has not loaded the kernel's vmlinux; name the image that was booted") from None
    path: str | None = module.debug_file_path or module.loaded_file_path
    if path is None:
        raise OpsError("drgn has not loaded the kernel's vmlinux; name the image that was booted")
    return path


def _reader(prog: drgn.Program, bits: int) -> Any:
    """drgn's reader, for kernels of its program's width alone: another's addresses mean something else."""
    platform = prog.platform
    is_64 = platform is None or "IS_64_BIT" in str(platform.flags)
    if is_64 != (bits == 64):
        raise DumpError(
            f"<drgn>: is of a machine of {64 if is_64 else 32} bits, and the kernel is of {bits}", file="<drgn>"
        )
    return prog.read


def _command(prog: drgn.Program, name: str, args: argparse.Namespace, **_: Any) -> Report | None:
    """``%pvops``: prints the report, and gives it."""
    from pvops.render import terminal, verify_text

    try:
        report = verify(prog, args.kernel, machine=args.machine, allow=args.allow, modules=args.module)
    except Error as error:
        from drgn.commands import CommandError

        raise CommandError(str(error)) from error
    style = terminal.Style("auto")
    sys.stdout.write("\n".join(verify_text.lines(report, style, args.verbose)) + "\n")
    return report


def _register() -> None:
    try:
        from drgn.commands import argument
        from drgn.commands.linux import linux_kernel_command
    except ImportError:  # an older drgn, which has no commands
        return
    linux_kernel_command(
        name="pvops",
        description="explain every byte of the kernel's text, by the kernel's own tables",
        arguments=(
            argument("kernel", nargs="?", help="the image that was booted (default: the vmlinux that drgn has loaded)"),
            argument("--machine", metavar="FACTS", help="the machine, where it is known: it is not inferred then"),
            argument("--allow", metavar="WHO", action="append", default=[], choices=OWNERS, help=", ".join(OWNERS)),
            argument("--module", metavar="FILE.ko", action="append", default=[], help="judge this loaded module too"),
            argument("-v", "--verbose", action="store_true", help="print what was inferred, with its votes"),
        ),
    )(_command)


_register()
