"""What the version alone decides is said under ``--verbose``, with the commit that made the change."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from image import small
from pvops.assembler.elf import ALLOC, ElfSection
from pvops.cli import main

SITES = small.TEXT + 0x50_0000


def image(tmp_path: Path, release: str, distance: int, seal: bytes = b"") -> str:
    """The path of a kernel with two functions that have hashes so far before them, and code that may seal one."""
    function = b"\xb8\x44\x33\x22\x11".ljust(distance, b"\x90") + b"\xf3\x0f\x1e\xfa\xc3"
    rows = b"".join(struct.pack("<i", small.TEXT + n * len(function) - (SITES + 4 * n)) for n in range(2))
    path = tmp_path / "vmlinux"
    more = [ElfSection(".cfi_sites", SITES, rows, ALLOC)]
    path.write_bytes(small.image(2 * function + seal, release=release, more=more))
    return str(path)


@pytest.mark.parametrize(
    ("release", "distance", "looks"), [("6.18.3-small", 64, 16), ("6.19.8-small", 64, 64), ("7.2.1-small", 32, 32)]
)
@pytest.mark.parametrize("command", ["sites", "patch", "verify"])
def test_how_far_hashes_are_looked_for(
    command: str, release: str, distance: int, looks: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = image(tmp_path, release, distance)
    text = tmp_path / "text"
    assert main(["patch", path, "--format", "text", "-o", str(text)]) == 0
    words = {"sites": [], "patch": ["--format", "text", "-o", str(text)], "verify": [str(text)]}[command]
    capsys.readouterr()
    assert main([command, path, *words, "--verbose"]) == 0
    told = capsys.readouterr().err
    assert f"hashes lie {distance} bytes before their functions, and the kernel looks for them {looks} bytes" in told
    assert "its version says so, as no code of it does (24c8147abb39, 7.0, and stable)" in told
    assert main([command, path, *words]) == 0
    assert "24c8147abb39" not in capsys.readouterr().err, "nobody asked"


@pytest.mark.parametrize(("distance", "seal"), [(64, b"\xc7\x43\xc1\0\0\0\0\xc3"), (16, b"")])
def test_what_the_image_tells_is_no_rule_of_a_version(
    distance: int, seal: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sites", image(tmp_path, "7.2.1-small", distance, seal), "--verbose"]) == 0
    told = capsys.readouterr().err
    assert "rules of 7." in told, told
    assert "its version says so" not in told


@pytest.mark.parametrize(
    ("release", "said"),
    [
        ("2.6.28-small", "rules of 2.6.33: release 2.6.28-small, since 2.6.28 (f88f07e0f0b7)"),
        ("2.6.37-small", "rules of 2.6.37: release 2.6.37-small, since 2.6.37 (f49aa448561f)"),
        ("6.19.8-small", "rules of 6.19: release 6.19.8-small, since 6.19 (25e4e3565d45)"),
    ],
)
def test_passes_that_begin_within_an_era(
    release: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(small.image(b"\x90" * 64, release=release))
    assert main(["sites", str(path), "--verbose"]) == 0
    assert said in capsys.readouterr().err


def test_numbers_that_nothing_confirms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows ask for a feature of a word that Linux assigns, and the image prints no names."""
    path = tmp_path / "vmlinux"
    rows = [small.Alternative(0, 5, 7 * 32 + 11, b"\x90" * 5), small.Alternative(8, 5, 9 * 32 + 20, b"\x90" * 5)]
    path.write_bytes(small.image(b"\x90" * 64, rows, release="6.12.1-small"))
    assert main(["sites", str(path), "--verbose"]) == 0
    told = capsys.readouterr().err
    assert "the number of PTI: as 6.12" in told, "SMAP is a bit of a CPUID register"
    assert " declares, and nothing in the image confirms" in told
