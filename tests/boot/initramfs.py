"""The guest's initial file system: ``init.c`` built here, in a cpio archive of the form "newc" written here."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

#: How long the guest rests before it looks at itself.
SETTLE_SECONDS = 2

_FOLDER = Path(__file__).parent
_FLAGS = (
    *("-Os", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-fno-stack-protector", "-fcf-protection=none"),
    *("-fno-tree-loop-distribute-patterns", "-fno-pie", "-no-pie", "-static", "-nostdlib", "-Wl,--build-id=none"),
    # QEMU 7.2 loses vector registers of programs in a guest within its guest.
    "-mgeneral-regs-only",
)


class Entry(NamedTuple):
    """One file of an archive: its name, its mode with the type in it, its bytes, the device it stands for."""

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def compiler() -> str | None:
    """The C compiler, if there is one."""
    return next((found for name in (os.environ.get("CC", "gcc"), "gcc", "cc") if (found := shutil.which(name))), None)


def built_init(folder: Path, bits: int, source: str = "init.c") -> bytes:
    """A source of this folder as a static program of 32 or 64 bits; ``folder`` takes the file."""
    command = compiler()
    if command is None:
        raise FileNotFoundError("no C compiler: `apt install gcc`")
    path = folder / "init"
    built = ("-o", str(path), str(_FOLDER / source))
    words = [command, f"-m{bits}", *_FLAGS, f"-DSETTLE_SECONDS={SETTLE_SECONDS}", *built]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise RuntimeError(f"{source} does not compile: {done.stderr.strip()}")
    return path.read_bytes()


def archive(entries: Iterable[Entry]) -> bytes:
    """A cpio archive: of each entry 13 numbers as 8 hexadecimal digits, the name, the data, both padded to 4 bytes."""
    out = bytearray()
    for number, entry in enumerate((*entries, Entry("TRAILER!!!", 0)), 1):
        name = entry.name.encode() + b"\0"
        links = 2 if stat.S_ISDIR(entry.mode) else 1
        # inode, mode, uid, gid, links, mtime, size, device of the file system, device of the node, name, checksum
        fields = (number, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, *entry.device, len(name), 0)
        out += b"070701" + b"".join(b"%08X" % field for field in fields) + name
        out += bytes(-len(out) % 4) + entry.data
        out += bytes(-len(out) % 4)
    return bytes(out)


def initramfs(init: bytes, modules: Iterable[bytes] = ()) -> bytes:
    """The archive that a guest starts with: ``/init``, its two ports, where it mounts what the kernel shows, and the
    modules it loads, in this order."""
    folders = [Entry(name, stat.S_IFDIR | 0o755) for name in ("dev", "proc", "sys", "modules")]
    return archive(
        [
            *folders,
            Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
            Entry("dev/ttyS1", stat.S_IFCHR | 0o600, device=(4, 65)),
            Entry("init", stat.S_IFREG | 0o755, init),
            *(Entry(f"modules/{i:02}", stat.S_IFREG | 0o644, module) for i, module in enumerate(modules)),
        ]
    )
