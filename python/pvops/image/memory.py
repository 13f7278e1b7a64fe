"""Memory of a running kernel: a dump, the kernel this runs on, or anything that reads virtual addresses.

::

    memory = pvops.memory.open("guest.core")
    found = memory.find(pvops.open("vmlinuz-6.1.0-56-amd64"))
    hex(found.slide), found.how
    held = found.section(".text")
    held.bytes, held.unread

Where a kernel is not, the error says what is there instead:

>>> pvops.memory.open(bytes(0x10000)).find(pvops.open("vmlinux-sample"))
Traceback (most recent call last):
pvops.errors.DumpError: <bytes>: holds nothing but zeros

drgn's and volatility3's readers are memory too::

    pvops.memory.open(prog.read)  # prog = drgn.Program(); prog.set_core_dump("vmcore")
    pvops.memory.open(kernel_layer.read)  # kernel_layer = context.layers["primary"], volatility3
    pvops.memory.open(layer.read, physical=[(0, layer.maximum_address + 1)])  # a layer of physical memory
"""

from __future__ import annotations

import os
import sys

import pvops._core as _core
from pvops.errors import DumpError, Error, InputError
from pvops.image.buffers import contiguous
from pvops.progress import Bar
from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterable
    from typing import BinaryIO, TypeAlias

    from typing_extensions import Buffer

    from pvops.image.view import KernelView

    #: Reads memory: (address, size) -> as many bytes. Raises any exception where they are not all there.
    Read: TypeAlias = Callable[[int, int], Buffer]
    #: Told how far a long search is: (bytes done, bytes there are).
    Progress: TypeAlias = Callable[[int, int], object]


#: So much is read of a pipe at a time.
_PART = 1 << 20
#: So much of a dump tells its format.
_FIRST = 1 << 16
#: Of so many shares of the room for copies, one stays free.
_SHARES = 8


def open(source: str | os.PathLike[str] | Buffer | Read, *, physical: Iterable[tuple[int, int]] = ()) -> Memory:
    """Opens memory: a dump's path or its bytes, or a function that reads it by address.

    A dump is an ELF core (QEMU's ``dump-guest-memory``, ``virsh dump --memory-only --format elf``, kdump, VirtualBox,
    perf's copy of ``/proc/kcore``, ``xl dump-core``), kdump-compressed (makedumpfile's and QEMU's, flattened or split),
    in LiME's or AVML's format, VMware's ``.vmem`` with the ``.vmss`` or ``.vmsn`` beside it, or plain: physical memory
    from 0 on, or a kernel's ``.text`` and nothing else. Its headers are read now, the rest where needed: packed pages
    are unpacked when they are asked for. What a named pipe gives is copied first, as by `open_stdin`.

    Args:
        source: a path, anything with the buffer protocol, or ``(address, size) -> bytes``.
        physical: of a function that takes physical addresses, (address, size) of each stretch of memory that there is;
            one without takes virtual addresses.

    Raises:
        InputError: the file cannot be read.
        DumpError: it is truncated or malformed, or in a format that cannot be read; the message says which.
    """
    if isinstance(source, str | os.PathLike):
        path = os.fspath(source)
        return _copied_from(path) if _is_pipe(path) else Memory(_core.Memory.open(path))
    if callable(source):
        name = getattr(source, "__qualname__", None) or type(source).__name__
        return Memory(_core.Memory.from_reader(f"<{name}>", source, list(physical)))
    return Memory(_core.Memory.from_bytes("<bytes>", contiguous(source, "a path, bytes, or a function that reads")))


def open_stdin() -> Memory:
    """Opens the dump on standard input.

    A dump is read at offsets, which a pipe has not: what comes through one is first copied into a temporary file
    (``TMPDIR``), which nobody else sees. A stream may have no end: one that no machine's memory begins as is refused
    after 64 MiB, and the copy leaves an eighth of what is free there.

    Raises:
        InputError: it cannot be read, or there is no room for the copy.
        DumpError: as `open`.
    """
    import stat

    name = "<stdin>"
    if sys.stdin is None:
        raise InputError("-: standard input is closed", file=name)
    try:
        descriptor = sys.stdin.fileno()
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return Memory(_core.Memory.open(f"/proc/self/fd/{descriptor}", name))
        return _copied(sys.stdin.buffer, name)
    except OSError as error:
        raise InputError(f"{name}: {error.strerror or error}", file=name) from error


def _is_pipe(path: str | bytes) -> bool:
    import stat

    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except (OSError, ValueError):  # as opening it will say
        return False


def _copied_from(path: str | bytes) -> Memory:
    import io

    name = os.fsdecode(path)
    try:
        with io.FileIO(path) as pipe:
            return _copied(pipe, name)
    except OSError as error:
        raise InputError(f"{name}: {error.strerror or error}", file=name) from error


def _copied(stream: io.RawIOBase | BinaryIO, name: str) -> Memory:
    import tempfile

    with tempfile.TemporaryFile() as copy:
        room = os.fstatvfs(copy.fileno())
        most = room.f_bavail * room.f_frsize * (_SHARES - 1) // _SHARES
        done = 0
        # A format that is not read is told by its first bytes; noise by more.
        told_by = [_core.Memory.TELLING, _FIRST]
        while part := stream.read(_PART):
            done += len(part)
            if done > most:
                why = (
                    f"a dump from a pipe is copied first, and {tempfile.gettempdir()} has room for {most:,} bytes of it"
                )
                raise InputError(f"{name}: {why}: save it and name the file, or set TMPDIR", reason=why, file=name)
            copy.write(part)
            if told_by and done >= told_by[-1]:
                copy.flush()
                _core.Memory.refuse_by_start(name, os.pread(copy.fileno(), told_by.pop(), 0))
        copy.flush()
        return Memory(_core.Memory.open(f"/proc/self/fd/{copy.fileno()}", name))


def live() -> Memory:
    """The memory of the kernel this runs on, ``/proc/kcore``; takes root.

    Raises:
        InputError: it cannot be read; the message says what that takes.
    """
    return Memory(_core.Memory.live())


def running_kernel() -> str:
    """The path of the image that the running kernel was booted from, where distributions put it.

    Raises:
        InputError: there is none; the message says where it was looked for.
    """
    return _core.running_kernel()


class LinkedBytes(NamedTuple):
    """What memory holds at a range of addresses.

    Attributes:
        address: the first address, as linked.
        bytes: as if the kernel had not slid, but for the fields in ``strays``, which stand as memory has them; 0 where
            unread.
        unread: (start, end) of what could not be read, as linked.
        strays: (address, width) of the relocated fields that do not hold what the kernel's relocation left there: the
            kernel's patching overwrote them, or somebody else did.
    """

    address: int
    bytes: bytes
    unread: list[tuple[int, int]]
    strays: list[tuple[int, int]]

    def __repr__(self) -> str:
        unread = sum(end - start for start, end in self.unread)
        return (
            f"<LinkedBytes at {self.address:#x}: {len(self.bytes)} bytes, {unread} unread, {len(self.strays)} strays>"
        )


class Location:
    """A kernel found in memory. Made by `Memory.find`."""

    def __init__(self, kernel: KernelView, core: _core.Location) -> None:
        self.kernel = kernel
        self.core = core

    def __repr__(self) -> str:
        return f"<Location {self.kernel.release or self.kernel.name}, slide {self.slide:#x}>"

    @property
    def slide(self) -> int:
        """The virtual slide: addresses in memory less linked ones. 0 without KASLR."""
        return self.core.slide

    @property
    def physical(self) -> int | None:
        """Physical address of the first byte of ``.text``; None where only virtual memory can be read."""
        return self.core.physical

    @property
    def how(self) -> list[str]:
        """What tells that it is there, a sentence each."""
        return self.core.how

    def read(self, address: int, size: int) -> LinkedBytes:
        """What memory holds at a range of linked addresses.

        Raises:
            InputError: the dump cannot be read.
            DumpError: the range is longer than any kernel.
        """
        try:
            tables = self.kernel.tables
        except Error:
            # Where a table cannot be read, what replacements brought to their sites stands as memory has it.
            tables = None
        return LinkedBytes(address, *self.core.read(address, size, tables))

    def section(self, name: str) -> LinkedBytes:
        """What memory holds of a section.

        Raises:
            DumpError: the image has no such section.
        """
        for section, address, size, _ in self.kernel.image.sections():
            if section == name:
                return self.read(address, size)
        raise DumpError(f"{self.kernel.name}: no section {name}", file=self.kernel.name, section=name)


class Memory:
    """Opened memory. Make one with `pvops.memory.open`."""

    def __init__(self, core: _core.Memory) -> None:
        self.core = core

    def __repr__(self) -> str:
        return f"<Memory {self.name}: {self.kind}>"

    @property
    def name(self) -> str:
        """The file as it was named, ``<bytes>``, or the reader's name in angle brackets."""
        return self.core.name

    @property
    def kind(self) -> str:
        """``elf-core``, ``kdump``, ``lime``, ``avml``, ``xen-core``, ``vmware``, ``plain``, ``live`` or ``reader``."""
        return self.core.kind

    def find(self, kernel: KernelView, progress: Progress | None = None) -> Location:
        """Finds where a kernel lies in this memory, and how far it slid.

        Args:
            kernel: the kernel that ran, from the very image it was booted from.
            progress: called now and then with (bytes done, bytes there are) where the search takes long; an exception
                it raises ends the search. `bar` makes one for a terminal.

        Raises:
            DumpError: the kernel is not there; the message says what is: another kernel, another build of it, noise.
        """
        return Location(kernel, self.core.find(kernel.image, progress))


def bar(what: str) -> Bar | None:
    """A progress bar on stderr, for `Memory.find`; None where that is no terminal."""
    return Bar(what) if sys.stderr.isatty() else None


__all__ = ["LinkedBytes", "Location", "Memory", "bar", "live", "open", "open_stdin", "running_kernel"]
