"""The files of a corpus: kernels, and beside them boots.

A kernel is any file that begins as one: a bzImage, also in a unified kernel image, an ELF file, or what a compressor
made. Its boots are the files ``NAME~MODE.json`` anywhere below the folder, where NAME is the kernel's file name without
``vmlinuz-``, ``vmlinux-``, ``.img``, ``.elf`` and ``.efi``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from pvops.errors import InputError
from pvops.tuples import NamedTuple

#: What belongs to kernels and boots and is none itself.
_BESIDE = (
    ".json",
    ".facts",
    ".xz.sig",
    ".runs.xz",
    ".text",
    ".log",
    ".txt",
    ".md",
    ".ko",
    ".config",
    ".sha256",
    ".deb",
)
#: How a kernel's file begins, or what a compressor made of one: gzip, xz, bzip2, lzma, lzo, lz4, zstd.
_MAGICS = (
    *(b"\x7fELF", b"\x1f\x8b", b"\xfd7zXZ\0", b"BZh", b"\x5d\x00\x00", b"\x89LZO"),
    *(b"\x02\x21\x4c\x18", b"\x28\xb5\x2f\xfd"),
)
#: The header of Linux's boot protocol, and where it stands (Documentation/arch/x86/boot.rst).
_HEADER, _HEADER_AT = b"HdrS", 0x202
#: How a unified kernel image begins, what its section with the kernel is called, and where at most its header ends.
_UNIFIED, _LINUX, _UNIFIED_HEAD = b"MZ", b".linux\0\0", 0x1000
_NAME = re.compile(r"(?:vmlinu[xz]-?)?(.*?)(?:\.img|\.elf|\.efi)?")


class BootFiles(NamedTuple):
    """One boot.

    Attributes:
        name: ``6.1.0-56-amd64~kvm-max-smp2``.
        document: path of its ``.json``.
    """

    name: str
    document: str

    def beside(self, suffix: str) -> str | None:
        """The path of another of its files (``.facts``), or None where it is absent."""
        path = self.document.removesuffix(".json") + suffix
        return path if os.path.isfile(path) else None


class KernelFiles(NamedTuple):
    """One kernel.

    Attributes:
        path: of the image.
        name: its file name without what all kernels' have.
        boots: by name.
    """

    path: str
    name: str
    boots: tuple[BootFiles, ...]


class Folder(NamedTuple):
    """What a folder has.

    Attributes:
        kernels: by release, the newest first.
        orphans: boots whose kernel is not there, by name.
    """

    kernels: tuple[KernelFiles, ...]
    orphans: tuple[str, ...]


def folder(path: str | os.PathLike[str], boots: Iterable[str | os.PathLike[str]] = ()) -> Folder:
    """Looks through a folder and all below it.

    Args:
        path: the folder.
        boots: others that have boots of its kernels.

    Raises:
        InputError: a folder cannot be read, or there is no kernel in it.
    """
    files = _below(os.fspath(path))
    booted: dict[str, list[BootFiles]] = {}
    for place in (*files, *(file for other in boots for file in _below(os.fspath(other)))):
        base = os.path.basename(place)
        if base.endswith(".json") and "~" in base:
            name = base.removesuffix(".json")
            booted.setdefault(name.partition("~")[0], []).append(BootFiles(name, place))
    kernels = []
    for place in files:
        base = os.path.basename(place)
        if not base.endswith(_BESIDE) and not base.startswith("config-") and _is_kernel(place):
            found = _NAME.fullmatch(base)
            name = (found[1] if found else "") or base
            own = sorted(dict.fromkeys(booted.pop(name, [])))
            kernels.append(KernelFiles(place, name, tuple(own)))
    if not kernels:
        raise InputError(f"{os.fspath(path)}: no kernel in this folder", reason="no kernel in this folder")
    kernels.sort(key=lambda kernel: _age(kernel.name), reverse=True)
    return Folder(tuple(kernels), tuple(sorted(boot.name for left in booted.values() for boot in left)))


def _below(path: str) -> list[str]:
    """Every file below a folder."""

    def failed(error: OSError) -> None:
        raise InputError(f"{error.filename}: {error.strerror}", reason=str(error.strerror))

    found = [os.path.join(where, file) for where, _, inside in os.walk(path, onerror=failed) for file in inside]
    return sorted(file for file in found if os.path.isfile(file))


def _is_kernel(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            head = file.read(_UNIFIED_HEAD)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", reason=str(error.strerror), file=path) from None
    unified = head.startswith(_UNIFIED) and _LINUX in head
    return unified or head.startswith(_MAGICS) or head.startswith(_HEADER, _HEADER_AT)


def _age(name: str) -> tuple[tuple[int, int | str], ...]:
    """What sorts names by their numbers."""
    parts = re.split(r"(\d+)", name)
    return tuple((1, int(part)) if part.isdigit() else (0, part) for part in parts if part)
