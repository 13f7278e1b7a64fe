"""One run of a kernel in QEMU, without KVM: started, waited for, stopped, its memory saved, ended.

Every wait has an end, and whatever happens neither a process nor a file is left behind.
"""

from __future__ import annotations

import mmap
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from boot.domains import Domains, collected
from boot.forced_kvm import REALTIME, ForcedKvm, leaves
from boot.gdb import GdbError
from boot.middle import Middle
from boot.modes import Mode
from boot.qmp import Qmp, QmpError

#: The last line of what ``init.c`` prints, and how the first begins.
READY, FIRST = "\n==READY\n", "==FILE "
#: Where a kernel's image begins in virtual memory on x86-64, and on i386; with ``nokaslr`` it lies as far from 0 in
#: physical memory.
START_KERNEL_MAP = 0xFFFF_FFFF_8000_0000
PAGE_OFFSET = 0xC000_0000
_XEN_OPTIONS = "console=com1 com1=115200,8n1 dom0_mem=512M noreboot"
#: What Xen takes to start a guest with hardware's help: it wants an IOMMU, and QEMU's AMD one sits on this machine.
_PVH_OPTIONS, _PVH_MACHINE = " dom0=pvh", ("q35", "-device", "amd-iommu")
#: The machine's memory, and how Xen divides what it gives a guest.
MEMORY, _PIECE = 1 << 30, 2 << 20
#: How long the monitor gets to answer: saving a GiB on a busy disk takes its time.
SAVE_SECONDS = 240.0
#: How long QEMU gets to end when it is asked to.
QUIT_SECONDS = 3.0
#: How many of the console's last lines an error shows.
_LAST_LINES = 15


class BootError(RuntimeError):
    """The guest did not come up, or QEMU did not do as it was told; ends with the console's last lines."""


def deadline_seconds() -> float:
    """How long a boot may take: 240 seconds, or ``PVOPS_BOOT_SECONDS``; a tenth is usual."""
    return float(os.environ.get("PVOPS_BOOT_SECONDS", "240"))


class Guest:
    """A machine that runs while the ``with`` block does.

    ``with Guest(qemu, kernel, initramfs, mode) as guest: facts = guest.facts(); text = guest.memory(address, size)``
    """

    def __init__(
        self,
        qemu: Path,
        kernel: Path,
        initramfs: bytes,
        mode: Mode,
        seconds: float | None = None,
        address_of: Callable[[str], int | None] = lambda _: None,
        xen: Path | None = None,
        middle: Middle | None = None,
        domains: Domains | None = None,
        text: tuple[int, int] = (0, 0),
    ) -> None:
        """What to start.

        ``address_of`` finds the kernel's symbols, which forcing KVM's detection takes; ``xen`` is Xen as an ELF file;
        ``middle`` the machine between, which has real KVM and takes three times as long; so do ``domains``, Xen with
        its tools, where the guest's init copies its ``text``: address and size.
        """
        self._address_of = address_of
        self._xen = xen
        self._middle = middle
        self._domains = domains
        self._text_at = text
        self._hints = REALTIME if mode.dedicated else 0
        self._kvm: ForcedKvm | None = None
        self._qemu = qemu
        self._kernel = kernel
        self._initramfs = initramfs
        self._mode = mode
        between = middle or domains
        wanted = deadline_seconds() * (1 if between is None else 3) if seconds is None else seconds
        self._deadline = time.monotonic() + wanted
        self._memory = MEMORY if between is None else between.MEMORY
        self._first = 0 if middle is None else Middle.OWN
        self._close: list[Callable[[], object]] = []
        self._stopped = False

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()

    # What a test asks for

    def facts(self) -> str:
        """Waits until the guest has printed its facts, and returns them."""
        while not (told := self._text("facts")).endswith(READY):
            self._check()
            time.sleep(0.1)
        # The log comes with the level before each line, which `dmesg` does not print.
        # Before them may stand what the port's driver wrote to find out what it is, as that of 2.6.32 does.
        told = told.removesuffix(READY)[max(0, told.find(FIRST)) :]
        facts = re.sub(r"^<\d+>(?=\[)", "", told, flags=re.MULTILINE)
        if self._kvm is None:
            return facts
        return facts.replace("==FILE dmesg\n", f"{leaves(self._hints)}==FILE dmesg\n", 1)

    def memory(self, address: int, size: int) -> bytes:
        """Stops the guest and returns what its memory holds where the kernel linked at an address lies."""
        base = START_KERNEL_MAP if address >> 32 else PAGE_OFFSET
        if not base <= address < 1 << 64:
            raise ValueError(f"{address:#x} is no address of a kernel's image")
        if not self._stopped:
            self._stop()
        path = self._folder / "memory"
        if self._mode.hypervisor == "xen":
            # Xen chose where in physical memory the kernel lies: read through a CPU's own page tables.
            where = {"val": address - (1 << 64), "cpu-index": self._cpu_in_kernel()}
            self._run("memsave", size=size, filename=str(path), **where)
        else:
            self._run("pmemsave", val=address - base, size=size, filename=str(path))
        saved = path.read_bytes()
        path.unlink()
        if len(saved) != size:
            raise self._failed(f"QEMU saved {len(saved)} of {size} bytes")
        return saved

    def scattered(self, built: bytes) -> bytes:
        """Stops the guest and returns what its memory holds of some text, of which most is as built.

        Xen gives a guest memory in pieces of 2 MiB and more, each where it likes: a piece is where the most of its
        samples are as built.
        """
        if not self._stopped:
            self._stop()
        path = self._folder / "memory"
        self._run("pmemsave", val=0, size=self._memory, filename=str(path))
        held = b""
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
            if self._domains is not None:
                copied = collected(memory, len(built))
                if copied is None:
                    raise self._failed("not all of the text was copied")
                return copied
            for start in range(0, len(built), _PIECE):
                piece = built[start : start + _PIECE]
                samples = [(at, piece[at : at + 16]) for at in range(0, len(piece) - 16, len(piece) // 128 + 1)]

                def same(place: int, samples: list[tuple[int, bytes]] = samples) -> int:
                    return sum(memory[place + at : place + at + 16] == sample for at, sample in samples)

                best = max(range(self._first, len(memory), _PIECE), key=same)
                if same(best) < len(samples) / 4:
                    raise self._failed(f"no memory is like the text from {start:#x} on")
                held += memory[best : best + len(piece)]
        path.unlink()
        return held

    def dump(self, path: Path, *, paging: bool = False) -> Path:
        """Stops the guest and saves its physical memory as an ELF core; with ``paging`` where its CPUs see it, too."""
        if not self._stopped:
            self._stop()
        self._run("dump-guest-memory", paging=paging, protocol=f"file:{path.absolute()}")
        return path

    def dump_packed(self, path: Path, kind: str) -> Path | None:
        """Saves it in a format that packs pages; None where this QEMU was built without that."""
        try:
            to = f"file:{path.absolute()}"
            self._qmp.run("dump-guest-memory", seconds=self._left(60), paging=False, protocol=to, format=kind)
        except QmpError as error:
            if "not available" in str(error):
                return None
            raise self._failed(str(error)) from error
        return path

    @property
    def seconds(self) -> float:
        """How long the guest has been running."""
        return time.monotonic() - self._began

    def console(self) -> str:
        """What the kernel has printed so far."""
        return self._text("console")

    # Starting and ending

    def _start(self) -> None:
        temporary = tempfile.TemporaryDirectory(prefix="pvops-boot-")
        self._close.append(temporary.cleanup)
        self._folder = Path(temporary.name)
        initramfs = self._initramfs
        if self._middle is not None:
            initramfs = self._middle.archive(self._qemu, self._kernel, initramfs, self._mode)
        if self._domains is not None:
            copied = "copy={:x},{:x}".format(*self._text_at)
            initramfs = self._domains.archive(self._kernel, initramfs, self._mode, copied)
        (self._folder / "initramfs").write_bytes(initramfs)
        monitor, debugger = self._connection(), self._connection()
        if self._mode.hypervisor == "kvm":
            self._kvm = ForcedKvm(debugger[0], self._address_of, self._hints)
        with monitor[1] as qmp, debugger[1] as gdb, (self._folder / "errors").open("wb") as errors:
            self._process = subprocess.Popen(
                [*_dies_with_us(), *self._command(qmp.fileno(), gdb.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                pass_fds=[qmp.fileno(), gdb.fileno()],
            )
        self._close.append(self._kill)
        self._qmp = Qmp(monitor[0])
        try:
            self._qmp.greet(self._left(30))
        except QmpError as error:
            raise self._failed(str(error)) from error
        if self._kvm is not None:
            self._kvm.start()

    def _connection(self) -> tuple[socket.socket, socket.socket]:
        """A pair of sockets: our end, which is closed in the end, and QEMU's."""
        ours, theirs = socket.socketpair()
        self._close += [ours.close, theirs.close]
        return ours, theirs

    def _command(self, qmp: int, gdb: int) -> list[str]:
        mode = self._mode
        initramfs = str(self._folder / "initramfs")
        debugger: tuple[str, ...] = ()
        if mode.hypervisor == "kvm":
            debugger = ("-S", "-chardev", f"socket,id=gdb,fd={gdb}", "-gdb", "chardev:gdb")
        image = ("-kernel", str(self._kernel), "-initrd", initramfs, "-append", mode.cmdline)
        machine: tuple[str, ...] = ("pc",)
        if mode.under_xen:
            # Modules, with commas between and their command lines after a blank; the kernel by a name without either.
            kernel = self._folder / "kernel"
            kernel.symlink_to(self._kernel.absolute())
            modules = f"{kernel} {mode.cmdline.replace(',', ',,')},{initramfs}"
            options = _XEN_OPTIONS
            if mode.hypervisor == "xen-pvh":
                options, machine = options + _PVH_OPTIONS, _PVH_MACHINE
            image = ("-kernel", str(self._xen), "-initrd", modules, "-append", options)
        cpu, processors = mode.cpu, mode.processors
        if self._middle is not None:
            cpu, processors = Middle.CPU, 1
            image = ("-kernel", str(self._middle.kernel), "-initrd", initramfs, "-append", Middle.CMDLINE)
        if self._domains is not None:
            cpu, processors = Domains.CPU, 1
            modules = f"{self._domains.kernel} {Domains.CMDLINE},{initramfs}"
            image = ("-kernel", str(self._domains.xen), "-initrd", modules, "-append", Domains.OPTIONS)
        return [
            *(str(self._qemu), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *("-machine", *machine, "-accel", "tcg,thread=single,tb-size=512", "-cpu", cpu),
            *("-smp", str(processors), "-m", f"{self._memory >> 20}M"),
            *("-chardev", f"socket,id=qmp,fd={qmp}", "-mon", "chardev=qmp,mode=control"),
            *("-serial", f"file:{self._folder / 'console'}", "-serial", f"file:{self._folder / 'facts'}"),
            *debugger,
            *image,
        ]

    def _end(self) -> None:
        while self._close:
            self._close.pop()()

    def _kill(self) -> None:
        """Asks QEMU to end, then makes it."""
        if self._process.poll() is None:
            try:
                self._qmp.run("quit", seconds=QUIT_SECONDS)
                self._process.wait(QUIT_SECONDS)
            except (AttributeError, QmpError, subprocess.TimeoutExpired):
                self._process.kill()
        self._process.wait(10)

    # Waiting

    def _left(self, most: float) -> float:
        return max(0.1, min(most, self._deadline - time.monotonic()))

    def _run(self, command: str, **arguments: object) -> object:
        try:
            return self._qmp.run(command, seconds=self._left(SAVE_SECONDS), **arguments)
        except QmpError as error:
            raise self._failed(str(error)) from error

    def _stop(self) -> None:
        """Stops the guest for good."""
        if self._kvm is not None:
            self._kvm.finish()
        self._run("stop")
        if self._kvm is not None:
            try:
                self._kvm.join(self._left(10))
            except GdbError as error:
                raise self._failed(str(error)) from error
        self._stopped = True

    def _cpu_in_kernel(self) -> int:
        """Lets a guest of Xen's run on until a CPU is in its kernel, in ring 3 like all of it, and stops it there."""
        while True:
            told = str(self._run("human-monitor-command", **{"command-line": "info registers -a"}))
            for cpu, registers in enumerate(told.split("CPU#")[1:]):
                rip = re.search(r"RIP=([0-9a-f]{16})", registers)
                ring = re.search(r"CPL=(\d)", registers)
                if rip and ring and int(rip[1], 16) >= START_KERNEL_MAP and ring[1] == "3":
                    return cpu
            self._check()
            self._run("cont")
            time.sleep(0.05)
            self._run("stop")

    def _check(self) -> None:
        """Raises where waiting for the guest has no point, or has taken too long."""
        status = self._process.poll()
        if status is not None:
            raise self._failed(f"QEMU ended by itself with status {status}")
        if self._kvm is not None and self._kvm.error:
            raise self._failed(self._kvm.error)
        if "Kernel panic" in self.console():
            time.sleep(0.5)
            raise self._failed("the kernel panicked")
        if time.monotonic() > self._deadline:
            raise self._failed(f"not ready after {self.seconds:.0f} s")

    def _failed(self, what: str) -> BootError:
        lines = [what]
        for name in ("errors", "console", "facts") if self._domains is not None else ("errors", "console"):
            last = self._text(name).rstrip().splitlines()[-_LAST_LINES:]
            lines += [f"last lines of the {name}:" if last else f"no {name}", *(f"  {line}" for line in last)]
        return BootError(f"{self._kernel.name}, {self._mode.name}: " + "\n".join(lines))

    def _text(self, name: str) -> str:
        """What QEMU, or the guest through a serial port, has written so far, without the terminal's line ends."""
        path = self._folder / name
        return path.read_bytes().decode("utf-8", "replace").replace("\r", "") if path.exists() else ""


def _dies_with_us() -> tuple[str, ...]:
    """Has the kernel end QEMU where this process ends without a chance to do so."""
    found = shutil.which("setpriv")
    return (found, "--pdeathsig", "KILL", "--") if found else ()
