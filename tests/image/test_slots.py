"""Where slots lie, as sites say it, and what functions do, as their instructions say it."""

from __future__ import annotations

import struct

import pytest

import pvops
from image import small
from pvops import sample
from pvops.assembler.elf import ALLOC, ElfSection
from pvops.image import functions, slots


@pytest.mark.parametrize(
    ("code", "bits", "slot"),
    [
        ("ff 14 25 40 00 c0 81", 64, 0xFFFF_FFFF_81C0_0040),
        ("ff 24 25 40 00 c0 81", 64, 0xFFFF_FFFF_81C0_0040),
        ("ff 15 40 00 c0 00", 64, 0x1000 + 6 + 0xC0_0040),
        ("ff 25 fa ff ff ff", 64, 0x1000),
        ("50 ff 15 40 00 00 00 58", 64, 0x1000 + 7 + 0x40),
        ("ff 15 40 00 c0 c1", 32, 0xC1C0_0040),
        ("51 52 2e ff 15 40 00 c0 c1 5a 59", 32, 0xC1C0_0040),
        ("0f 01 f8", 64, None),
        ("ff 15", 64, None),
        ("", 64, None),
    ],
)
def test_a_site_goes_through_a_slot(code: str, bits: int, slot: int | None) -> None:
    assert slots.called(0x1000, bytes.fromhex(code), bits) == slot


def test_structures_are_runs_of_types() -> None:
    apart = {0: 0x100, 1: 0x108, 4: 0x800, 5: 0x808, 9: 0x200, 11: 0x210}
    assert slots.are_structures(apart, 8)
    assert not slots.are_structures({0: 0x100, 1: 0x108, 2: 0x110}, 8)  # one array
    swapped = {0: 0x100, 1: 0x120, 2: 0x128, 3: 0x108, 4: 0x110, 5: 0x130 - 8}
    assert not slots.are_structures(swapped, 8)  # two slots at one place
    assert slots.are_structures({0: 0x100, 1: 0x118, 2: 0x120, 3: 0x108, 4: 0x110, 6: 0x130}, 8)
    assert not slots.are_structures({**apart, 10: 0x10}, 8)  # a row in a structure's middle that disagrees


@pytest.mark.parametrize(
    ("code", "does"),
    [
        ("c3", "nop"),
        ("f3 c3", "nop"),  # gcc up to 8
        ("f3 0f 1e fa c3", "nop"),
        ("e9 00 00 00 00", None),
        ("48 89 f8 c3", "ident64"),
        ("f3 0f 1e fa 48 89 f8 e9 00 00 00 00", None),
        ("89 f8 c3", "ident32"),
        ("31 c0 c3", None),
        ("0f 1f 44 00 00 c3", "nop"),
        ("e8 01 00 00 00 c3 c3", "nop"),  # traced: what it calls returns at once
        ("e8 04 00 00 00 48 89 f8 c3 c3", "ident64"),
        ("e8 01 00 00 00 c3 90", None),
        ("55 48 89 e5 e8 02 00 00 00 5d c3 c3", "nop"),  # mcount is called behind the frame
        ("55 48 89 e5 e8 05 00 00 00 48 89 f8 5d c3 c3", "ident64"),
        ("55 48 89 e5 0f 1f 44 00 00 5d c3", "nop"),
        ("55 48 89 e5 e8 02 00 00 00 5d c3 90", None),
        ("55 48 89 e5", None),
        ("55 48 89 e5 c9 c3", "nop"),  # gcc 4.4
        ("55 48 89 e5 e8 02 00 00 00 c9 c3 c3", "nop"),
        ("55 48 89 e5 c9 48 89 f8 c3", "ident64"),
        ("55 48 89 e5 c9 89 f8 c3", "ident32"),
    ],
)
def test_what_a_function_does(code: str, does: str | None) -> None:
    kernel = small.kernel(bytes.fromhex(code) + b"\xcc" * 16)
    assert functions.does(kernel, small.TEXT) == does


@pytest.mark.parametrize(("code", "does"), [("48 89 f8 c3", "ident64"), ("c3", "nop"), ("fa c3", None)])
def test_a_function_may_end_its_section(code: str, does: str | None) -> None:
    """A kernel built with -ffunction-sections and linked as such (FG-KASLR) has a section for each function."""
    kernel = small.kernel(bytes.fromhex(code))
    assert functions.does(kernel, small.TEXT) == does
    assert functions.begins_with(kernel, small.TEXT, b"\xfa") == (does is None)


@pytest.mark.parametrize(("code", "does"), [("e9 00 00 00 00", "nop"), ("48 89 f8 e9 00 00 00 00", "ident64")])
def test_a_jump_is_a_return_where_returns_have_rows(code: str, does: str) -> None:
    """To __x86_return_thunk; in an image without .return_sites it leads to another function."""
    returns = ElfSection(".return_sites", small.DATA + 0x1000, bytes(4), ALLOC)
    kernel = small.kernel(bytes.fromhex(code) + b"\xcc" * 16, more=[returns])
    assert functions.does(kernel, small.TEXT) == does


@pytest.mark.parametrize(
    ("held", "code", "begins"),
    [
        ("fa c3", "fa", True),
        ("f3 0f 1e fa e8 00 00 00 00 55 48 89 e5 fa 5d c3", "fa", True),
        ("9c 58 e9 00 00 00 00", "9c 58", True),
        ("fa fb c3", "fa", False),
        ("fb c3", "fa", False),
        ("fa f3 c3", "fa", True),
        ("55 48 89 e5 fa c9 c3", "fa", True),
    ],
)
def test_what_a_function_begins_with(held: str, code: str, begins: bool) -> None:
    kernel = small.kernel(bytes.fromhex(held) + b"\xcc" * 48)
    assert functions.begins_with(kernel, small.TEXT, bytes.fromhex(code)) == begins


@pytest.mark.parametrize(
    ("name", "code", "does", "begins"),
    [
        ("_paravirt_nop", "55 89 e5 c9", "nop", False),
        ("_paravirt_ident_64", "55 89 e5 57 5f 5d", "nop", False),
        ("native_read_tsc", "55 89 e5 57 0f 31 5f 5d", None, True),
        ("native_read_tsc", "55 89 e5 57 0f 31 90 5d", None, False),
    ],
)
def test_frames_of_i386(name: str, code: str, does: str | None, begins: bool) -> None:
    kernel = pvops.open(sample.build("3.1", 32, bodies={name: bytes.fromhex(code)}).elf)
    address = kernel.address_of(name) or 0
    assert functions.does(kernel, address) == does
    assert functions.begins_with(kernel, address, b"\x0f\x31") == begins


@pytest.mark.parametrize(
    ("held", "calls"),
    [
        ("55 48 89 e5 51 52 41 53 e8 10 00 00 00 41 5b 5a 59 5d c3", 13 + 16),
        ("f3 0f 1e fa 51 52 e8 10 00 00 00", 11 + 16),
        ("51 31 c0 e8 10 00 00 00", None),
    ],
)
def test_what_a_thunk_of_a_callee_save_op_calls(held: str, calls: int | None) -> None:
    kernel = small.kernel(bytes.fromhex(held) + b"\xcc" * 48)
    assert functions.behind_thunk(kernel, small.TEXT) == (None if calls is None else small.TEXT + calls)


def test_a_table_of_pointers_is_found_by_most_of_its_words() -> None:
    """xen_cpu_ops in an image that lists no data: some of the functions are other versions'."""
    functions_ = [small.TEXT + 16 * n for n in range(8)]
    data = struct.pack("<12Q", 0, 7, *functions_, 0, 9)
    kernel = small.kernel(b"\xc3" * 128, data=data)
    wanted = {8 * n: address for n, address in enumerate(functions_)}
    assert kernel.find_words(wanted) == small.DATA + 16
    assert kernel.find_words(wanted | {0: 0x1234, 24: 0x5678}) == small.DATA + 16
    assert kernel.find_words(dict.fromkeys(range(0, 64, 8), 0x1234)) is None
    assert kernel.find_words({0: functions_[0], 8: functions_[1]}) is None
    twice = small.kernel(b"\xc3" * 128, data=data * 2)
    assert twice.find_words(wanted) is None
