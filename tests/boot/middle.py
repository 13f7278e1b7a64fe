"""The machine in the middle: a Linux with KVM on QEMU's AMD SVM, whose init becomes the QEMU that starts the guest.

All it needs is in its initial file system: that QEMU with its libraries and firmware, KVM's modules, the guest's
kernel and initial file system. The guest's memory is of huge pages, so the outer machine's has it in whole pieces of
2 MiB; its serial ports are the middle machine's, which are the outer QEMU's files.
"""

from __future__ import annotations

import re
import stat
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar

from boot.initramfs import Entry, archive
from boot.modes import Mode

#: KVM on AMD, in the order in which they load.
MODULES = ("ccp", "irqbypass", "kvm", "kvm-amd")
#: What a QEMU without a graphics card loads to start a kernel itself.
_FIRMWARE = ("qboot.rom", "linuxboot_dma.bin", "linuxboot.bin", "kvmvapic.bin")
_SHARE = "usr/share/qemu"
_GUEST_MIB, _HUGE = 384, 2


@dataclass(frozen=True)
class Middle:
    """What it is made of.

    Attributes:
        kernel: that it runs.
        modules: KVM's, of that kernel.
        init: ``middle.c``, built.
        firmware: the folder with QEMU's.
    """

    #: Bytes of the outer machine's memory, and of those at its start in which the middle kernel's own text lies: it may
    #: be like the guest's.
    MEMORY: ClassVar[int] = 1280 << 20
    OWN: ClassVar[int] = 128 << 20

    kernel: Path
    modules: list[bytes]
    init: bytes
    firmware: Path

    #: The outer QEMU's CPU: the first levels of page tables, and AMD's SVM.
    CPU: ClassVar[str] = "max,la57=off"
    #: The middle kernel's command line: pages for the guest, and no word on the guest's console but of its end.
    CMDLINE: ClassVar[str] = (
        f"nokaslr console=ttyS0 quiet panic=-1 mitigations=off hugepages={_GUEST_MIB // _HUGE} no_timer_check"
    )

    def archive(self, qemu: Path, kernel: Path, initramfs: bytes, mode: Mode) -> bytes:
        """Its initial file system."""
        files = {str(path).lstrip("/"): path.read_bytes() for path in (qemu, *libraries(qemu))}
        files |= {f"{_SHARE}/{name}": (self.firmware / name).read_bytes() for name in _FIRMWARE}
        files |= {"guest": kernel.read_bytes(), "guest-initramfs": initramfs}
        files |= {"arguments": b"".join(word.encode() + b"\0" for word in arguments(qemu, mode))}
        files |= {f"modules/{i:02}": module for i, module in enumerate(self.modules)}
        return archive(
            [
                *(Entry(name, stat.S_IFDIR | 0o755) for name in folders(files, "dev", "proc", "sys", "huge", "tmp")),
                Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
                Entry("init", stat.S_IFREG | 0o755, self.init),
                *(Entry(name, stat.S_IFREG | 0o755, data) for name, data in files.items()),
            ]
        )


def arguments(qemu: Path, mode: Mode) -> list[str]:
    """The words of the inner QEMU."""
    vmware = "vmware" in mode.leaves.lower()
    return [
        *(str(qemu), "-L", f"/{_SHARE}", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-accel", "kvm", "-machine", f"pc,vmport={'on' if vmware else 'off'}", "-bios", "qboot.rom"),
        *("-cpu", ",".join(word for word in (mode.cpu, mode.leaves) if word), "-smp", str(mode.processors)),
        *("-m", f"{_GUEST_MIB}M", "-mem-path", "/huge", "-mem-prealloc"),
        *("-kernel", "/guest", "-initrd", "/guest-initramfs", "-append", mode.cmdline),
        *("-serial", "/dev/ttyS0", "-serial", "/dev/ttyS1"),
    ]


def folders(files: Iterable[str], *others: str) -> list[str]:
    """The folders that files lie in, and others, each before what is in it."""
    found = {str(parent) for name in files for parent in PurePosixPath(name).parents} - {"."}
    return sorted({*found, *others})


def libraries(program: Path) -> list[Path]:
    """The libraries that a program loads, and what loads them, as it names them.

    Raises:
        RuntimeError: the dynamic loader cannot tell.
    """
    done = subprocess.run(["ldd", str(program)], capture_output=True, text=True, timeout=30)
    found = re.findall(r"(?:=> )?(/\S+) \(0x", done.stdout)
    if done.returncode or not found:
        raise RuntimeError(f"{program}: no program of this machine with shared libraries: {done.stderr.strip()}")
    return [Path(path) for path in found]
