"""Static calls are done again where calls are counted: by ``callthunks_patch_builtin_calls()`` of 6.2 to 6.4."""

from __future__ import annotations

import struct

import pytest

import pvops
from image import small
from pvops.assembler.elf import ALLOC, ElfSection
from pvops.machine.machine import Machine

TABLES = small.TEXT + 0x50_0000
#: Where things lie from the start of the text: two functions behind padding, sites, thunks.
CALLED, SET, CALL, SITE, TAIL, THUNK, COUNTED = 0x10, 0x30, 0x40, 0x45, 0x4A, 0x60, 0x70
#: ``sarq $5, %gs:0x1000``: the counting instruction.
TEMPLATE = bytes.fromhex("6548c13c250010000005")
KEYS = small.DATA, small.DATA + 16
#: CALL_DEPTH and RETHUNK of 6.3 to 6.5: an image has the features that its rows ask for.
ROWS = [small.Alternative(0x78 + n, 1, 11 * 32 + bit, b"\xcc") for n, bit in enumerate((19, 14))]


def branch(opcode: int, at: int, to: int) -> bytes:
    """A call or a jump between two places in the text."""
    return bytes([opcode]) + struct.pack("<i", to - at - 5)


def text(call: int, site: bytes, tail: bytes, pads: tuple[bytes, bytes] = (b"", b"")) -> bytes:
    """The text with these sites, and this at the end of the padding before the functions."""
    code = bytearray(b"\xcc" * 0x80)
    for function, pad in zip((CALLED, SET), pads, strict=True):
        code[function - 16 : function] = pad.rjust(16, b"\x90")
        code[function : function + 3] = b"\x31\xc0\xc3"
    code[CALL : CALL + 5] = branch(0xE8, CALL, call)
    code[SITE : SITE + 5], code[TAIL : TAIL + 5] = site, tail
    for thunk in (THUNK, COUNTED):
        code[thunk] = 0xC3
    return bytes(code)


BUILT = text(CALLED, branch(0xE8, SITE, SET), branch(0xE9, TAIL, THUNK))
AGAIN = text(
    CALLED - len(TEMPLATE),
    branch(0xE8, SITE, SET - len(TEMPLATE)),
    branch(0xE9, TAIL, COUNTED),
    (TEMPLATE, TEMPLATE),
)


def image(release: str) -> bytes:
    ends: dict[str, int] = {}
    rows, at = [], TABLES
    for name, fields in (
        (".call_sites", [small.TEXT + CALL]),
        (".return_sites", [small.TEXT + TAIL]),
        (".static_call_sites", [small.TEXT + SITE, KEYS[0], small.TEXT + TAIL, KEYS[1] + 1]),
    ):
        data = b"".join(struct.pack("<i", field - (at + 4 * n)) for n, field in enumerate(fields))
        rows.append(ElfSection(name, at, data, ALLOC))
        ends |= {f"__start_{name[1:]}": at, f"__stop_{name[1:]}": at + len(data)}
        at += 0x100
    rows.append(ElfSection(".template", at, TEMPLATE, ALLOC))
    symbols = ends | {
        "called": small.TEXT + CALLED,
        "set_later": small.TEXT + SET,
        "caller": small.TEXT + CALL,
        "__x86_return_thunk": small.TEXT + THUNK,
        "__x86_return_skl": small.TEXT + COUNTED,
        "__x86_indirect_thunk_rax": small.TEXT + THUNK + 8,
        "skl_call_thunk_template": at,
        "skl_call_thunk_tail": at + len(TEMPLATE),
    }
    data = struct.pack("<QQQQ", small.TEXT + SET, 0, 0, 0)
    return small.image(BUILT, ROWS, release=release, more=rows, symbols=symbols, data=data)


MACHINE = {
    "vendor": "GenuineIntel",
    "family": 6,
    "model": 0x5E,
    "flags": "fpu sse2",
    "bugs": "spectre_v2 retbleed",
    "cmdline": "retbleed=stuff spectre_v2=retpoline",
    "vulnerabilities": {
        "spectre_v2": "Mitigation: Retpolines, STIBP: disabled, RSB filling",
        "retbleed": "Mitigation: Stuffing",
    },
}


@pytest.mark.parametrize("release", ["6.3.8-small", "6.4.6-small", "6.5.1-small"])
def test_calls_go_to_the_padding_and_returns_to_the_thunk(release: str) -> None:
    kernel = pvops.open(image(release))
    assert kernel.plan("native", machine=Machine.from_dict(MACHINE)).apply().hex() == AGAIN.hex()
