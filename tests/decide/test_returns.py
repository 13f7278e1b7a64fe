"""The return thunk of an image without symbols: the log of such a kernel has an address for its name."""

from __future__ import annotations

import struct

import pytest

import pvops
from image import small
from pvops.assembler.elf import ALLOC, ElfSection
from pvops.decide.prediction import predict
from pvops.decide.returns import return_thunk
from pvops.kernel import Kernel
from pvops.machine.machine import Machine

DEFAULT, ITS, CREDITED, TABLE = 0x5F0, 0x5E0, 0x500, small.TEXT + 0x60_0000
#: ``shlq $5, %gs:call_depth; jz 1f; ret; int3``, the variable's place relative to the instruction or not.
COUNTED = [bytes.fromhex(f"6548c1{place}057402c3cc") for place in ("25ff125700", "242518000000")]


def kernel(counted: bytes = COUNTED[0]) -> Kernel:
    text = bytearray(b"\xcc" * 0x1000)
    rows = b""
    for at in range(0, 64, 16):
        text[at : at + 5] = b"\xe9" + struct.pack("<i", DEFAULT - (at + 5))
        rows += struct.pack("<i", small.TEXT + at - (TABLE + len(rows)))
    for thunk in (DEFAULT, ITS):
        text[thunk : thunk + 2] = b"\xc3\xcc"
    text[CREDITED : CREDITED + len(counted)] = counted
    row = small.Alternative(0xC00, 3, 9 * 32 + 20, bytes.fromhex("0f01ca"))
    sites = ElfSection(".return_sites", TABLE, rows, ALLOC)
    return pvops.open(small.image(bytes(text), [row], release="6.15.0-small", more=[sites], stripped=True))


@pytest.mark.parametrize("slide", [0, 0x1240_0000])
@pytest.mark.parametrize(
    ("thunk", "symbol"),
    [(ITS, "its_return_thunk"), (CREDITED, "call_depth_return_thunk"), (DEFAULT, "__x86_return_thunk")],
)
def test_an_address_in_the_log_is_that_of_a_thunk_wherever_the_kernel_slid(thunk: int, symbol: str, slide: int) -> None:
    opened = kernel()
    log = f"[    0.1] active return thunk: {small.TEXT + thunk + slide:#x}\n"
    found = return_thunk(predict(Machine.from_dict({"dmesg": log}), opened), opened)
    assert (found.symbol, found.address) == (symbol, small.TEXT + thunk)
    assert "active return thunk" in found.source


@pytest.mark.parametrize("counted", COUNTED)
def test_the_thunk_that_counts_returns_is_told_by_its_code(counted: bytes) -> None:
    assert kernel(counted).image.return_thunk("call_depth_return_thunk") == small.TEXT + CREDITED


def test_an_address_that_is_no_thunk_tells_nothing() -> None:
    opened = kernel()
    log = f"[    0.1] active return thunk: {small.TEXT + 0x123:#x}\n"
    assert "active return thunk" not in return_thunk(predict(Machine.from_dict({"dmesg": log}), opened), opened).source


def test_the_thunk_that_counts_has_another_name_up_to_6_8() -> None:
    thunks = {"__x86_return_thunk": small.TEXT + DEFAULT, "__x86_return_skl": small.TEXT + CREDITED}
    opened = small.kernel(b"\xc3" * 0x1000, release="6.6.0-small", symbols=thunks)
    given = {"vulnerabilities": {"retbleed": "Mitigation: Stuffing", "spectre_v2": "Mitigation: Retpolines"}}
    found = return_thunk(predict(Machine.from_dict(given), opened), opened)
    assert (found.symbol, found.address) == ("__x86_return_skl", small.TEXT + CREDITED)
