"""Files out of packages that apt offers: downloaded and unpacked into ``.cache``, not installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

from .shell import CACHE, output_of, say


def with_fresh_lists(find: Callable[[], Path | None]) -> Path | None:
    """What ``find`` gets from apt; where it gets nothing, once more with the package lists brought up to date."""
    found = find()
    if found is None and (root := as_root()) is not None:
        say("bringing apt's package lists up to date")
        output_of(*root, "apt-get", "-q", "-o", "Acquire::Retries=1", "update", timeout=600)
        found = find()
    return found


def as_root() -> tuple[str, ...] | None:
    """What to put before a command to run it as root without being asked for a password; None if that is not so."""
    if os.geteuid() == 0:
        return ()
    return ("sudo", "-n") if output_of("sudo", "-n", "true") is not None else None


def downloaded(package: str, wanted: Mapping[str, Path]) -> bool:
    """Files of a package that apt downloads: by a pattern of its name, where each goes. Whether all are there."""
    download = CACHE / "download"
    shutil.rmtree(download, ignore_errors=True)
    download.mkdir(parents=True)
    say(f"downloading {package} with apt-get (not installed, only unpacked into .cache)")
    try:
        done = output_of("apt-get", "-q", "-o", "Acquire::Retries=1", "download", package, cwd=download, timeout=600)
        debs = sorted(download.glob("*.deb"))
        if done is None or not debs:
            say(f"apt-get could not download {package} (offline?)")
            return False
        if not unpack(debs[0], wanted):
            names = ", ".join(target.name for target in wanted.values())
            say(f"{debs[0].name} does not hold {names}, or dpkg-deb is missing")
            return False
    finally:
        shutil.rmtree(download, ignore_errors=True)
    return True


def unpack(deb: Path, wanted: Mapping[str, Path]) -> bool:
    """Takes files by their names (patterns) out of a package, read as a stream: the others are not written to disk."""
    if shutil.which("dpkg-deb") is None:
        return False
    left = dict(wanted)
    with subprocess.Popen(
        ["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as tar:
        try:
            with tarfile.open(fileobj=tar.stdout, mode="r|") as members:
                for member in members:
                    name = next((name for name in left if re.fullmatch(name, Path(member.name).name)), None)
                    if member.isfile() and name is not None:
                        target = left.pop(name)
                        target.parent.mkdir(parents=True, exist_ok=True)
                        part = target.with_suffix(".part")
                        held = members.extractfile(member)
                        part.write_bytes(held.read() if held else b"")
                        part.replace(target)
                        if not left:
                            return True
        except tarfile.TarError:
            pass
        finally:
            tar.kill()
    return False
