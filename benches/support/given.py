"""What scripts are given: a kernel, its payload, and the peers that are installed."""

from __future__ import annotations

import importlib
import lzma
import os
import shutil
import struct
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

RELEASE = "6.1.0-56-amd64"

# The setup header (Documentation/arch/x86/boot.rst).
SETUP_SECTS, PAYLOAD_OFFSET = 0x1F1, 0x248


def kernels_root() -> Path | None:
    """The folder with `kernels` and `boots`; None, said, where nobody names one."""
    root = os.environ.get("PVOPS_KERNELS")
    if root is None:
        print(f"skipped: {Path(sys.argv[0]).name}: PVOPS_KERNELS is not set", file=sys.stderr)
    return None if root is None else Path(root)


def kernel(release: str = RELEASE) -> Path | None:
    """The kernel that is measured; None, said, where it is not at hand."""
    root = kernels_root()
    if root is None:
        return None
    path = root / "kernels" / f"vmlinuz-{release}"
    if not path.exists():
        print(f"skipped: {path.name} is not at hand", file=sys.stderr)
    return path if path.exists() else None


@cache
def module(name: str) -> Any:
    """A peer in Python, or None, said, where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        print(f"missing: {name.partition('.')[0]} (the extra `bench`)", file=sys.stderr)
        return None


@cache
def tool(name: str) -> str | None:
    """A command, or None, said, where it is not installed."""
    path = shutil.which(name)
    if path is None:
        package = {"xz": "xz-utils", "objdump": "binutils"}.get(name, name)
        print(f"missing: {name} (`apt install {package}`)", file=sys.stderr)
    return path


def payload(image: bytes) -> bytes:
    """The compressed kernel within a bzImage; behind it stands the size of the image."""
    start = (image[SETUP_SECTS] + 1) * 512
    offset, length = struct.unpack_from("<II", image, PAYLOAD_OFFSET)
    return image[start + offset : start + offset + length]


def unpacked(packed: bytes) -> bytes:
    """The ELF image a payload holds, and the relocations behind it; without pvops."""
    if packed.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMADecompressor().decompress(packed)
    if packed.startswith(b"\x28\xb5\x2f\xfd") and tool("zstd"):
        return subprocess.run(["zstd", "-dcq"], input=packed[:-4], stdout=subprocess.PIPE, check=True).stdout
    raise SystemExit("neither an xz nor a zstd kernel, or no zstd to unpack it")
