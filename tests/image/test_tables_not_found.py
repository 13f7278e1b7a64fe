"""A table that could not be looked for is named; one that is not there is not."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

import pvops
from cli.run import pvops as command
from image import small
from pvops.assembler.elf import ALLOC, EXECUTE, ElfSection

#: A trampoline that nothing calls: ``ret; int3; nops``, and what tells it.
TRAMPOLINE = bytes.fromhex("c3cc9090900fb9cc")
TABLE = small.TEXT + 0x60_0000


def jump_table(rows: int) -> ElfSection:
    """A table of jump labels at the nops of the text, all of one key."""
    packed = b""
    for row in range(rows):
        here = TABLE + 16 * row
        packed += struct.pack("<iiq", small.TEXT + 8 * row - here, small.TEXT - here - 4, small.DATA - here - 8)
    return ElfSection(".jump_table_of_a_linker", TABLE, packed, ALLOC)


def made(*, release: str = "6.12.0-small", rows: int = 0, stripped: bool = True, trampolines: bool = False) -> bytes:
    nops = (bytes.fromhex("0f1f440000") + b"\x90" * 3) * 32
    text = nops + (TRAMPOLINE if trampolines else b"\xc3" * 8)
    more = [jump_table(rows)] if rows else []
    return small.image(text, release=release, more=more, stripped=stripped)


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({}, ("jump_labels",)),
        ({"trampolines": True}, ("jump_labels", "static_calls")),
        ({"rows": 4}, ("jump_labels",)),
        ({"rows": 20}, ()),
        ({"rows": 20, "trampolines": True}, ("static_calls",)),
        ({"stripped": False}, ()),
        ({"release": "2.6.33.3"}, ()),
    ],
)
def test_what_may_be_there_and_is_not_found(given: dict[str, bool], missing: tuple[str, ...]) -> None:
    opened = pvops.open(made(**given))  # type: ignore[arg-type]  # each argument has its own type
    assert opened.tables_not_found == missing


@pytest.mark.parametrize(
    "words", [["sites"], ["explain", f"{small.TEXT:#x}"], ["patch", "-o", "OUT"], ["diff", "native", "native"]]
)
def test_every_command_says_it(words: list[str], tmp_path: Path) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(made(trampolines=True))
    name, *rest = words
    done = command(name, path, *(str(tmp_path / "out") if word == "OUT" else word for word in rest))
    assert "jump_labels, static_calls: no symbol says where they lie" in done.stderr.decode()


@pytest.mark.parametrize(("functions", "said"), [(0, 0), (8, 0), (300, 300)])
def test_functions_that_a_boot_may_shuffle_are_said(functions: int, said: int, tmp_path: Path) -> None:
    """A kernel with FG-KASLR has a section for each function; one with a few cold sections has not."""
    more = [ElfSection(f".text.f{n}", TABLE + 16 * n, b"\xc3", ALLOC | EXECUTE) for n in range(functions)]
    image = small.image(b"\xc3" * 64, release="5.8.0-small", more=more)
    assert pvops.open(image).shuffled == said
    path = tmp_path / "vmlinux"
    path.write_bytes(image)
    heard = command("sites", path).stderr.decode()
    assert (f"{said} functions have sections of their own, which a boot may shuffle" in heard) == bool(said)
