"""A machine to boot a kernel on: QEMU, and Xen to boot below it."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
from pathlib import Path

from .apt import as_root, downloaded, with_fresh_lists
from .shell import CACHE, output_of, say, stop

QEMU = "qemu-system-x86_64"
QEMU_PACKAGE = "qemu-system-x86"
#: Starts a QEMU that lies unpacked beside the script: its libraries, modules and firmware are there too.
QEMU_STARTER = f"""#!/bin/sh
home=$(dirname "$(readlink -f "$0")")
for lib in "$home"/usr/lib/*-linux-gnu; do
    export LD_LIBRARY_PATH="$lib:$home/lib/${{lib##*/}}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"
    export QEMU_MODULE_DIR="$lib/qemu"
done
exec "$home/usr/bin/{QEMU}" -L "$home/usr/share/qemu" "$@"
"""


def qemu(may_install: bool) -> Path:
    """QEMU: what ``PVOPS_QEMU`` names, or the host's, or Debian's, installed where it may be, else in ``.cache``."""
    named = os.environ.get("PVOPS_QEMU")
    if named:
        return Path(named)
    found = qemu_of_host()
    if found is None and may_install:
        found = with_fresh_lists(qemu_installed)
    if found is None:
        found = with_fresh_lists(qemu_unpacked)
    if found is None:
        stop(f"{QEMU} is missing and apt cannot provide it: `apt install --no-install-recommends {QEMU_PACKAGE}`")
    return found


def qemu_of_host() -> Path | None:
    """The QEMU that is on the path."""
    found = shutil.which(QEMU)
    return Path(found) if found else None


def qemu_installed() -> Path | None:
    """QEMU installed with apt; nothing that is installed already may have to go for it."""
    root = as_root()
    if root is None:
        say(f"not root, and no sudo without a password: {QEMU_PACKAGE} is not installed")
        return None
    say(f"installing {QEMU_PACKAGE} with apt-get")
    wait = ("-o", "DPkg::Lock::Timeout=60", "-o", "Acquire::Retries=1")
    words = ("apt-get", "-q", "-y", "--no-remove", *wait, "--no-install-recommends", "install", QEMU_PACKAGE)
    if output_of(*root, "env", "DEBIAN_FRONTEND=noninteractive", *words, timeout=1200) is None:
        say(f"apt-get could not install {QEMU_PACKAGE} beside what is installed")
    return qemu_of_host()


def qemu_unpacked() -> Path | None:
    """QEMU and what it needs of packages that are not installed, unpacked into ``.cache``; needs no root."""
    home = CACHE / "qemu"
    starter = home / QEMU
    if output_of(starter, "--version") is not None:
        return starter
    would = output_of("apt-get", "install", "--simulate", "--no-install-recommends", QEMU_PACKAGE)
    packages = [f"{p}={v}" for p, v in re.findall(r"^Inst (\S+) (?:\[\S+\] )?\((\S+) ", would or "", re.MULTILINE)]
    if not packages or shutil.which("dpkg-deb") is None:
        say(f"apt offers no {QEMU_PACKAGE}")
        return None
    shutil.rmtree(home, ignore_errors=True)
    (home / "debs").mkdir(parents=True)
    say(f"downloading {QEMU_PACKAGE} with apt-get (not installed, only unpacked into .cache)")
    words = ("apt-get", "-q", "-o", "Acquire::Retries=1", "download", *packages)
    if output_of(*words, cwd=home / "debs", timeout=1200) is None:
        say(f"apt-get could not download {QEMU_PACKAGE} (offline?)")
        return None
    for deb in sorted((home / "debs").glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", deb, home], check=True)
    shutil.rmtree(home / "debs")
    starter.write_text(QEMU_STARTER)
    starter.chmod(0o755)
    return starter if output_of(starter, "--version") is not None else None


def xen_of_apt() -> Path | None:
    """Xen, of the newest package that apt offers, as the ELF file that QEMU loads."""
    names = re.findall(
        r"^xen-hypervisor-([\d.]+)-amd64$", output_of("apt-cache", "pkgnames", "xen-hypervisor") or "", re.M
    )
    if not names:
        say("apt offers no Xen")
        return None
    version = max(names, key=lambda name: [int(n) for n in name.split(".")])
    target = CACHE / f"xen-{version}"
    if not target.exists():
        packed = CACHE / "xen.gz"
        if not downloaded(f"xen-hypervisor-{version}-amd64", {r"xen-[\w.+-]+\.gz": packed}):
            return None
        part = CACHE / "xen.part"
        part.write_bytes(gzip.decompress(packed.read_bytes()))
        part.replace(target)
        packed.unlink()
    return target
