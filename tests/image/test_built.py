"""What an image says of how it is built: the mode of preemption, by the code that sets it."""

from __future__ import annotations

import struct

import pytest

import pvops
from image import small
from pvops.assembler.elf import ALLOC, EXECUTE, WRITE, ElfSection, ElfSymbol, write
from pvops.decide.answers import unknown_vendor
from pvops.image.built import Built
from pvops.machine.machine import Machine

INIT = small.TEXT + 0x60_0000
MODE, UPDATE = small.DATA + 8, small.TEXT + 0x20
#: ``cmpl $-1,preempt_dynamic_mode(%rip)``, as long as it is.
COMPARED = 7


def built(
    code: bytes,
    *,
    compared: int = MODE,
    called: int = UPDATE,
    switch: str = "sched_dynamic_update",
    named: bool = True,
) -> Built:
    """A kernel whose code that runs at boot compares the mode, goes on with this, and calls where its 0xe8 stands."""
    compare = b"\x83\x3d" + struct.pack("<i", compared - (INIT + COMPARED)) + b"\xff"
    at = COMPARED + code.index(b"\xe8") + 5
    whole = compare + code.replace(b"\xe8....", b"\xe8" + struct.pack("<i", called - (INIT + at)))
    return Built(
        small.kernel(
            b"\x90" * 64,
            symbols={switch: UPDATE} | ({"preempt_dynamic_mode": MODE} if named else {}),
            more=[ElfSection(".init.text", INIT, whole.ljust(256, b"\xcc"), ALLOC | EXECUTE)],
        )
    )


@pytest.mark.parametrize(
    ("argument", "mode"),
    [(b"\x31\xff", "none"), (b"\xbf\x01\0\0\0", "voluntary"), (b"\xbf\x03\0\0\0", "lazy")],
)
@pytest.mark.parametrize(
    "before",
    [b"\x75\x0a", b"\x66\x90\x0f\x85\x10\0\0\0", b"\x74\x03\x90\x90\xc3", b"\x0f\x84\x02\0\0\0\xc3\xcc\x55"],
    ids=["jne", "jne near", "je", "je near"],
)
def test_the_mode_is_what_is_handed_on(argument: bytes, mode: str, before: bytes) -> None:
    assert built(before + argument + b"\xe8....").preemption == mode
    assert built(before + argument + b"\xe8....", switch="__sched_dynamic_update").preemption == mode
    assert built(before + argument + b"\xe8....", named=False).preemption == mode, "CONFIG_KALLSYMS_ALL is off"


@pytest.mark.parametrize(
    ("argument", "mode"), [(b"\x31\xc0", "none"), (b"\xb8\x01\0\0\0", "voluntary"), (b"\x31\xff", "full")]
)
def test_on_32_bits_it_is_handed_on_in_eax(argument: bytes, mode: str) -> None:
    text, init, data = 0xC100_0000, 0xC140_0000, 0xC120_0000
    code = b"\x83\x3d" + struct.pack("<I", data) + b"\xff\x75\x0a" + argument + b"\xe8"
    code += struct.pack("<i", text + 0x20 - (init + len(code) + 4))
    sections = [
        ElfSection(".text", text, b"\x90" * 64, ALLOC | EXECUTE),
        ElfSection(".rodata", text + 0x10_0000, b"Linux version 6.1.0 (a@b) (made) #1\n\0", ALLOC),
        ElfSection(".data", data, bytes(64), ALLOC | WRITE),
        ElfSection(".init.text", init, code.ljust(256, b"\xcc"), ALLOC | EXECUTE),
    ]
    for name in ("sched_dynamic_update", "preempt_dynamic_mode"):
        symbols = [ElfSymbol("_text", text, 0, True), ElfSymbol("sched_dynamic_update", text + 0x20, 0, True)]
        symbols += [ElfSymbol(name, data, 2, False)] if name == "preempt_dynamic_mode" else []
        assert Built(pvops.open(write(32, sections, symbols, 0x100_0000))).preemption == mode


def test_what_does_not_set_the_mode_says_nothing() -> None:
    code = b"\x75\x0a\x31\xff\xe8...."
    assert built(code).preemption == "none"
    assert built(code, compared=MODE + 4).preemption is None, "another variable"
    assert built(code, called=UPDATE + 1).preemption == "full", "another function: none is handed on"
    assert built(b"\x90\x90\x31\xff\xe8....").preemption is None, "no branch"
    assert built(b"\x74\x0a\x31\xff\xe8....").preemption is None, "the other branch"
    assert Built(small.kernel(b"\x90" * 16)).preemption is None


@pytest.mark.parametrize("idents", [["GenuineIntel", "AuthenticAMD"], ["AuthenticAMD"], []])
def test_whose_cpus_an_image_has_code_for(idents: list[str]) -> None:
    """A firmware's kernel may be built for AMD's alone; one that does not say may be for all."""
    devices, strings = small.TEXT + 0x70_0000, small.TEXT + 0x70_0800
    texts = b"".join(text.encode().ljust(16, b"\0") for text in ("any", *idents)) + bytes(16)
    rows = b"".join(struct.pack("<4Q", strings, strings + 16 + 16 * n, 0, 0) for n in range(len(idents)))
    pointers = struct.pack(f"<{len(idents)}Q", *(devices + 32 * n for n in range(len(idents))))
    more = [ElfSection(".devices", devices, rows or bytes(8), ALLOC), ElfSection(".strings", strings, texts, ALLOC)]
    if idents:
        more.append(ElfSection(".x86_cpu_dev.init", small.TEXT + 0x70_0400, pointers, ALLOC))
    told = Built(small.kernel(b"\x90" * 64, more=more))
    assert told.vendors == set(idents)
    intel = Machine(vendor="GenuineIntel")
    assert unknown_vendor(intel, told) == (idents == ["AuthenticAMD"])
    assert not unknown_vendor(Machine(vendor="AuthenticAMD"), told)
    assert unknown_vendor(Machine(vendor="GenuineIntel", dmesg="CPU: vendor_id 'x' unknown, using generic init."), None)
