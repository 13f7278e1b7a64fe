"""Hyper-V's static calls in an image that names none: told by what functions do."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from pvops.image.hypercalls import Hypercalls, of_hyperv

TEXT, INIT, KEYS = 0xFFFF_FFFF_8100_0000, 0xFFFF_FFFF_8300_0000, 0xFFFF_FFFF_8200_0000
FAIL, NATIVE, CLOCK, SETTER = TEXT + 0x20, TEXT, TEXT + 0x100, TEXT + 0x180
PAGE_KEY, CLOCK_KEY, TRAMPOLINE = KEYS, KEYS + 0x10, TEXT + 0x1C0


def low(address: int) -> str:
    return (address & 0xFFFF_FFFF).to_bytes(4, "little").hex()


_FAILS = "f30f1efa 48c7c0ffffffff c3"
_READS = "f30f1efa 8b3500000000 85f6 7400 b920000040 0f32 c3"
_SETS = f"f30f1efa 4889fa 48c7c6{low(TRAMPOLINE)} 48c7c7{low(CLOCK_KEY)} e900000000"
_LOADS = f"48c7c7{low(CLOCK)} e800000000"


def kernel(
    fails: str = _FAILS, reads: str = _READS, sets: str = _SETS, loads: str = _LOADS, native: str = "31c0 c3"
) -> Any:
    text = bytearray(0x200)
    for at, code in ((FAIL, fails), (NATIVE, native), (CLOCK, reads), (SETTER, sets)):
        text[at - TEXT : at - TEXT + len(bytes.fromhex(code))] = bytes.fromhex(code)
    held = [(".text", TEXT, bytes(text)), (".init.text", INIT, bytes.fromhex(loads))]

    def read(address: int, size: int) -> bytes | None:
        for _, start, code in held:
            if start <= address and address + size <= start + len(code):
                return code[address - start : address - start + size]
        return None

    sections = [(name, start, len(code), True) for name, start, code in held]
    return SimpleNamespace(
        bits=64,
        image=SimpleNamespace(sections=lambda: sections, read=read),
        has_section=lambda name: False,
        tables=SimpleNamespace(call_keys=lambda: [(PAGE_KEY, None, FAIL), (CLOCK_KEY, None, NATIVE)]),
    )


@pytest.mark.parametrize(
    "sets",
    [_SETS, f"4889fa 48c7c7{low(CLOCK_KEY)} 48c7c6{low(TRAMPOLINE)} e900000000"],
    ids=["trampoline first", "key first"],
)
def test_the_call_that_fails_and_the_clock_that_is_set(sets: str) -> None:
    assert of_hyperv(cast(Any, kernel(sets=sets))) == Hypercalls(PAGE_KEY, {CLOCK_KEY: [CLOCK]})


@pytest.mark.parametrize(
    "changed",
    [
        {"fails": "48c7c000000000 c3"},
        {"native": _FAILS},
        {"reads": "b921000040 0f32 c3"},
        {"loads": f"48c7c7{low(NATIVE)} e800000000"},
        {"sets": f"4889fa 48c7c6{low(TRAMPOLINE)} 48c7c7{low(KEYS + 0x20)} e900000000"},
    ],
    ids=["returns 0", "two fail", "another register", "nothing loads the clock", "no key of a call"],
)
def test_nothing_is_told_where_one_sign_is_missing(changed: dict[str, str]) -> None:
    assert of_hyperv(cast(Any, kernel(**changed))) is None
