"""Guests that Xen's tools start: Xen, its first guest whose init starts the tools, and by them one of each kind.

All the tools need is in the first guest's initial file system, from packages of Debian's, unpacked. What the guest
prints goes through Xen's console to the machine's second serial port; where its memory lies only Xen knows, so its
init copies its text into pages that can be told (``copied.h``).
"""

from __future__ import annotations

import mmap
import os
import re
import stat
import struct
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from boot.initramfs import Entry, archive
from boot.middle import folders
from boot.modes import Mode

#: Xen's devices, in the order in which they load.
MODULES = ("xen-privcmd", "xenfs", "xen-evtchn", "xen-gntdev", "xen-gntalloc")
_GUEST_MIB, _FIRST_MIB = 384, 896
#: Where the tools, their libraries and what firmware a guest with a machine of its own has lie in the archive.
BIN, LIB, FIRMWARE = "xen/bin", "xen/lib", "xen/firmware"
#: Where QEMU looks, as far from the folder that it lies in as in Debian's package.
DATA = "xen/share/qemu"
_TOOLS = ("xenstored", "xen-init-dom0", "xenconsoled", "xl")
_LOADER = "ld-linux-x86-64.so.2"
_STARTED = (
    (f"/{BIN}/xenstored", "--pid-file", "/run/xenstored.pid"),
    (f"/{BIN}/xen-init-dom0",),
    (f"/{BIN}/xenconsoled", "--log=guest", "--log-dir=/log", "--pid-file=/run/xenconsoled.pid"),
    (f"/{BIN}/xl", "create", "-q", "/guest.cfg"),
)
#: A page of a guest's text: its two marks, its number, the sum of what follows (``copied.h``).
_PAGE, _HEAD, _MARK = 4096, struct.Struct("<QQQQ"), 0x746E65757370766F
_ALL = (1 << 64) - 1
_WORDS = struct.Struct(f"<{(_PAGE - _HEAD.size) // 8}Q")


@dataclass(frozen=True)
class Domains:
    """What it is made of.

    Attributes:
        xen: as an ELF file.
        kernel: of the first guest.
        modules: Xen's devices, of that kernel.
        init: ``toolstack.c``, built.
        root: the folder in which xen-utils, qemu-system-xen, seabios and their libraries are unpacked.
    """

    #: Bytes of the machine's memory.
    MEMORY: ClassVar[int] = 1536 << 20
    #: With SMAP or SMEP the first return to the first guest's user mode faults in QEMU 7.2, and with XSAVE kernels of
    #: 7.x do not come up in a guest's guest.
    CPU: ClassVar[str] = "max,la57=off,smap=off,smep=off,xsave=off,avx=off,avx2=off,f16c=off,fma=off"
    OPTIONS: ClassVar[str] = f"console=com1 com1=115200,8n1 dom0_mem={_FIRST_MIB}M,max:{_FIRST_MIB}M noreboot"
    CMDLINE: ClassVar[str] = "nokaslr console=hvc0 quiet panic=-1 mitigations=off"

    xen: Path
    kernel: Path
    modules: list[bytes]
    init: bytes
    root: Path

    def archive(self, kernel: Path, initramfs: bytes, mode: Mode, copied: str) -> bytes:
        """The first guest's initial file system; ``copied`` is what the guest's init is told to copy."""
        programs = {name: self._file(f"bin/{name}") for name in _TOOLS}
        files: dict[str, bytes] = {}
        if mode.domain == "hvm":
            programs["qemu"] = self._file("libexec/xen-qemu-system-i386")
            for name in ("hvmloader", "bios-256k.bin"):
                files[f"{FIRMWARE}/{name}"] = self._file(name).read_bytes()
            for name in ("linuxboot_dma.bin", "linuxboot.bin", "kvmvapic.bin"):
                files[f"{DATA}/{name}"] = self._file(name).read_bytes()
            files[f"{DATA}/keymaps/en-us"] = b"# no keys\n"  # QEMU 7.2 ends without one, be there no display
        files |= {f"{BIN}/{name}": path.read_bytes() for name, path in programs.items()}
        for path in self._libraries(programs.values()):
            files[f"lib64/{_LOADER}" if path.name == _LOADER else f"{LIB}/{path.name}"] = path.read_bytes()
        words = [word for program in _STARTED for word in (*program, "")]
        files |= {"guest": kernel.read_bytes(), "guest-initramfs": initramfs}
        files |= {"guest.cfg": configuration(mode, copied).encode(), "etc/xen/xl.conf": b'autoballoon="off"\n'}
        files |= {"arguments": b"".join(word.encode() + b"\0" for word in words)}
        files |= {f"modules/{i:02}": module for i, module in enumerate(self.modules)}
        empty = ("dev", "proc", "sys", "tmp", "log", "run/xen", "run/xenstored", "run/lock")
        more = ("var/lib/xen", "var/lib/xenstored", "var/log/xen", "run", "var", "var/lib", "var/log")
        return archive(
            [
                *(Entry(name, stat.S_IFDIR | 0o755) for name in folders(files, *empty, *more)),
                Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
                Entry("var/run", stat.S_IFLNK | 0o777, b"/run"),
                Entry("var/lock", stat.S_IFLNK | 0o777, b"/run/lock"),
                Entry("log/guest-guest.log", stat.S_IFLNK | 0o777, b"/dev/ttyS1"),
                Entry("init", stat.S_IFREG | 0o755, self.init),
                *(Entry(name, stat.S_IFREG | 0o755, data) for name, data in files.items()),
            ]
        )

    def _file(self, name: str) -> Path:
        found = next(
            (
                path
                for path in sorted(self.root.rglob(name.rpartition("/")[2]))
                if path.is_file() and str(path).endswith(f"/{name}")
            ),
            None,
        )
        if found is None:
            needed = "Debian's xen-utils, qemu-system-xen and qemu-system-data"
            raise FileNotFoundError(f"{self.root}: no {name} below it: unpack {needed}")
        return found

    def _libraries(self, programs: Iterable[Path]) -> list[Path]:
        """The libraries of programs, each once."""
        own = sorted({str(path.parent) for path in self.root.rglob("*.so*")})
        environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(own)}
        found: dict[str, Path] = {}
        for program in programs:
            done = subprocess.run(["ldd", str(program)], capture_output=True, text=True, timeout=30, env=environment)
            missing = re.findall(r"(\S+) => not found", done.stdout)
            if missing:
                raise FileNotFoundError(f"{program}: no {', '.join(missing)} below {self.root} or on this machine")
            for path in map(Path, re.findall(r"(?:=> )?(/\S+) \(0x", done.stdout)):
                found.setdefault(path.name, path)
        # What ends a thread loads this one by itself.
        ended = Path(found["libc.so.6"]).with_name("libgcc_s.so.1")
        return [*found.values(), ended]


def configuration(mode: Mode, copied: str) -> str:
    """The guest, as ``xl`` takes it."""
    lines = {
        "name": "guest",
        "type": mode.domain,
        "kernel": "/guest",
        "ramdisk": "/guest-initramfs",
        "cmdline": f"{mode.cmdline} -- {copied}",
        "on_crash": "preserve",
        "tsc_mode": "native",
    }
    if mode.domain == "hvm":
        lines |= {
            "device_model_override": f"/{BIN}/qemu",
            "firmware_override": f"/{FIRMWARE}/hvmloader",
            "bios_path_override": f"/{FIRMWARE}/bios-256k.bin",
            "vga": "none",
            "vnc": "0",
        }
    told = [f'{name} = "{value}"' for name, value in lines.items()]
    return "\n".join([*told, f"memory = {_GUEST_MIB}", f"vcpus = {mode.processors}", ""])


def collected(memory: bytes | mmap.mmap, size: int) -> bytes | None:
    """What a guest's init has copied, out of a machine's memory; None where not all of it is there."""
    found: dict[int, bytes] = {}
    mark = _HEAD.pack(_MARK, _MARK ^ _ALL, 0, 0)[:16]
    at = memory.find(mark)
    while at >= 0:
        if at % _PAGE == 0:
            page = memory[at : at + _PAGE]
            _, _, number, told = _HEAD.unpack_from(page)
            if sum(_WORDS.unpack_from(page, _HEAD.size)) & _ALL == told:
                found[number] = page[_HEAD.size :]
        at = memory.find(mark, at + 1)
    count = -(-size // (_PAGE - _HEAD.size))
    if not found.keys() >= set(range(count)):
        return None
    return b"".join(found[i] for i in range(count))[:size]
