"""The same image through GNU as and ld: what to hold ours against."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from pvops import _core
from pvops.assembler import Built, Image

#: Skips where there are no binutils.
needs_binutils = pytest.mark.skipif(any(shutil.which(tool) is None for tool in ("as", "ld")), reason="no GNU binutils")


def assembled(image: Image, built: Built, folder: Path) -> dict[str, bytes]:
    """Each section's bytes as GNU as and ld make them of `Image.source`, at the addresses it has in ``built``."""
    (folder / "guest.s").write_text(image.source())
    elf = ["elf_x86_64"] if image.bits == 64 else ["elf_i386"]
    places = [f"--section-start={name}={address:#x}" for name, (address, _) in built.sections.items()]
    _run("as", f"--{image.bits}", "guest.s", "-o", "guest.o", cwd=folder)
    _run("ld", "-m", *elf, "-e", "0", "-z", "noseparate-code", *places, "guest.o", "-o", "guest", cwd=folder)
    # Not `pvops.open`: it takes kernels, and these few instructions have none of a kernel's tables.
    theirs = _core.Image.open(str(folder / "guest"))
    found = {name: theirs.read(address, size) or b"" for name, address, size, _ in theirs.sections()}
    return {name: found.get(name, b"") for name in built.sections}


def assert_same(image: Image, folder: Path) -> None:
    """Every section is what GNU as makes of it, byte for byte."""
    built = image.build()
    theirs = assembled(image, built, folder)
    for name, (_, ours) in built.sections.items():
        assert ours.hex(" ") == theirs[name].hex(" "), name


def _run(*command: str, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr[:2000]}"
