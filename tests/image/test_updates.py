"""Static calls that no symbol names are told by the code that sets them."""

from __future__ import annotations

import struct

import pytest

from image import small
from pvops.assembler.elf import ALLOC, EXECUTE, ElfSection
from pvops.decide.keys import predict_calls
from pvops.decide.prediction import predict
from pvops.image.updates import Update, updates
from pvops.kernel import Kernel
from pvops.machine.machine import Machine

INIT, DRIVERS = small.TEXT + 0x60_0000, small.TEXT + 0x70_0000
#: ``struct apic`` of 6.6 and later, as far as it is asked: one function a word, flags in the thirteenth.
MEMBERS = (0, 8, 16, 24, 48, 56, 64, 72, 80, 88, 112, 120, 32)
TRAMPOLINE = bytes.fromhex("c3cc9090900fb9cc")
FUNCTIONS, IDLE, OTHER_IDLE = small.TEXT + 0x800, small.TEXT + 0xA00, small.TEXT + 0xB00
KEYS, APIC, OTHER, DRIVER = (small.DATA + at for at in (0x400, 0x10, 0x200, 0x100))


def trampoline(index: int) -> int:
    return small.TEXT + 8 * index


def constant(register: int, value: int) -> bytes:
    return bytes((0x48 | register >> 3, 0xC7, 0xC0 | register & 7)) + struct.pack("<I", value & 0xFFFF_FFFF)


def copied(register: int) -> bytes:
    """To the third argument's register; nothing where it is that."""
    return b"" if register == 2 else bytes((0x48 | (register & 8) >> 1, 0x89, 0xC0 | (register & 7) << 3 | 2))


def pointer(at: int, variable: int) -> bytes:
    return b"H\x8b\x05" + struct.pack("<i", variable - (at + 7))


def member(offset: int, wide: bool) -> bytes:
    if wide:
        return b"H\x8b\x90" + struct.pack("<I", offset)
    return b"H\x8b\x50" + bytes((offset,)) if offset else b"H\x8b\x10"


def set_up(at: int, index: int, variable: int, offset: int, order: int) -> bytes:
    """``static_call_update(name, *variable->member)`` in one of the orders that compilers choose."""
    ids = constant(6, trampoline(index)), constant(7, KEYS + 16 * index)
    load, field = pointer(at, variable), member(offset, wide=order == 2)
    code = b"".join((load, field, *ids) if order else (load, *ids, field))
    return code + b"\xe8" + struct.pack("<i", FUNCTIONS - (at + len(code) + 5))


def kernel(chosen: int = 2, idle: str = "0f1f440000fbf4c3", other: str = "660f1f440000fbc3") -> Kernel:
    """Without a name: trampolines of APIC calls and of idling, a driver and another one, and what sets the calls.

    Args:
        chosen: the register in which select_idle_routine() chooses a function.
        idle: the code of default_idle().
        other: that of the function beside it.
    """
    count = len(MEMBERS)
    text = bytearray(TRAMPOLINE * (count + 1)).ljust(0x1000, b"\xcc")
    text[0x800:0x810] = b"\xc3" * 16
    text[0xA00:0xA08], text[0xB00:0xB08] = bytes.fromhex(idle), bytes.fromhex(other)
    init = bytearray(b"\xc3" * 4)
    for index, offset in enumerate(MEMBERS):
        init += set_up(INIT + len(init), index, APIC, offset, index % 3)
    # select_idle_routine(): a branch chooses between two functions.
    init += constant(chosen, OTHER_IDLE) + b"\xeb\x07" + constant(chosen, IDLE)
    init += constant(6, trampoline(count)) + constant(7, KEYS + 16 * count) + copied(chosen) + b"\x5b\xe9" + bytes(4)
    data = bytearray(0x800)
    struct.pack_into("<Q", data, APIC - small.DATA, DRIVER)
    for at in (OTHER, DRIVER):
        for index, offset in enumerate(MEMBERS):
            struct.pack_into("<Q", data, at - small.DATA + offset, FUNCTIONS + index)
    struct.pack_into("<Q", data, DRIVER - small.DATA + 24, FUNCTIONS + 0xF)
    return small.kernel(
        bytes(text),
        [small.Alternative(0xC00, 3, 9 * 32 + 20, bytes.fromhex("0f01ca"))],
        data=bytes(data),
        more=[
            ElfSection(".init.text", INIT, bytes(init).ljust(0x1000, b"\xc3"), ALLOC | EXECUTE),
            ElfSection(".apicdrivers", DRIVERS, struct.pack("<QQ", OTHER, DRIVER), ALLOC),
        ],
    )


@pytest.mark.parametrize("chosen", [2, 3, 14])
def test_what_a_static_call_is_set_to(chosen: int) -> None:
    found = list(updates(kernel(chosen)))
    count = len(MEMBERS)
    for index, offset in enumerate(MEMBERS):
        assert found[index] == Update(KEYS + 16 * index, trampoline(index), APIC, offset, ())
    assert found[count] == Update(KEYS + 16 * count, trampoline(count), None, None, (IDLE, OTHER_IDLE))
    assert len(found) == count + 1


@pytest.mark.parametrize("given", [{}, {"flags": "fpu monitor hypervisor", "bugs": ""}])
def test_calls_without_a_name_go_where_the_driver_says(given: dict[str, object]) -> None:
    opened = kernel()
    words = predict(Machine.from_dict(given), opened)
    states = predict_calls(words, opened)
    count = len(MEMBERS)
    goes = [states[trampoline(index)].function for index in range(count + 1)]
    read = MEMBERS.index(24)
    expected = [FUNCTIONS + index for index in range(count)]
    expected[read] = FUNCTIONS + 0xF
    assert goes == [*expected, IDLE]
    assert "the member at 0x18 of struct apic" in states[trampoline(read)].source


@pytest.mark.parametrize(
    ("idle", "other", "goes"),
    [
        ("ff1500000000fac3", "0f01c80f01c9fac3", IDLE),  # call *pv_ops.irq.safe_halt, and monitor
        ("ff1500000000fac3", "660f1f440000fbc3", 0),  # nothing says which is which
        ("0f01c80f01c9fac3", "0f01c80f01c9fac3", 0),
    ],
)
def test_where_idling_is_an_op_it_is_beside_what_monitors(idle: str, other: str, goes: int) -> None:
    opened, place = kernel(idle=idle, other=other), trampoline(len(MEMBERS))
    halts = predict_calls(predict(Machine.from_dict({"flags": "fpu hypervisor", "bugs": ""}), opened), opened)
    assert halts[place].function == goes
    waits = predict_calls(predict(Machine.from_dict({"flags": "fpu monitor", "bugs": ""}), opened), opened)
    assert (waits[place].function == OTHER_IDLE) == (goes == IDLE)


def test_code_that_sets_nothing_is_no_update() -> None:
    """The address of a trampoline alone, or with a key and no call behind it."""
    opened = small.kernel(
        TRAMPOLINE * 4,
        more=[
            ElfSection(".init.text", INIT, constant(6, small.TEXT) + constant(7, KEYS) + b"\xc3" * 32, ALLOC | EXECUTE)
        ],
    )
    assert list(updates(opened)) == []


def jump(at: int, to: int) -> bytes:
    return b"\xe9" + struct.pack("<i", to - (at + 5)) + b"\x0f\xb9\xcc"


SMALL = [small.Alternative(0xC00, 3, 9 * 32 + 20, bytes.fromhex("0f01ca"))]


@pytest.mark.parametrize("apart", [False, True])
def test_preemption_without_a_name_is_told_by_what_turns_it_on(apart: bool) -> None:
    """``__sched_dynamic_update()``: cond_resched and might_resched go to one function, and are built with zero.

    Args:
        apart: the first stands behind the others, as where live patches may have taken it (6.3 to 6.12).
    """
    zero, on = small.TEXT + 0x800, small.TEXT + 0x810
    built = [zero, zero, *(small.TEXT + 0x820 + 16 * at for at in range(3))]
    text = bytearray(b"".join(jump(trampoline(at), to) for at, to in enumerate(built))).ljust(0x1000, b"\xcc")
    text[0x800:0x860] = b"\x31\xc0\xc3".ljust(16, b"\xcc") + b"\xc3".ljust(16, b"\xcc") * 5
    parts = [
        constant(2, to) + constant(6, trampoline(at)) + constant(7, KEYS + 16 * at) + b"\xe8" + bytes(4)
        for at, to in enumerate([on, on, *built[2:]])
    ]
    code = b"".join([*parts[1:], b"\xc3\xcc\xcc\xcc", parts[0]] if apart else parts)
    text[0x900 : 0x900 + len(code)] = code
    opened = small.kernel(bytes(text), SMALL)

    def goes(mode: str) -> list[int]:
        machine = Machine.from_dict({"dmesg": f"[    0.1] Dynamic Preempt: {mode}\n"})
        states = predict_calls(predict(machine, opened), opened)
        return [states[trampoline(at)].function for at in range(5)]

    assert goes("none") == [on, zero, 0, 0, 0]
    assert goes("voluntary") == [on, on, 0, 0, 0]
    assert goes("full") == built


def test_a_hash_without_a_name_runs_the_code_that_the_cpu_can_run() -> None:
    plain, sse, avx2, inner = (small.TEXT + at for at in (0x80, 0x100, 0x500, 0x900))
    text = bytearray(jump(trampoline(0), plain)).ljust(0x1000, b"\xcc")
    text[0x80] = 0xC3
    text[0x100:0x106] = bytes.fromhex("660f3800cdc3")
    # What calls the code between kernel_fpu_begin() and kernel_fpu_end().
    text[0x500:0x506] = b"\xe8" + struct.pack("<i", inner - (avx2 + 5)) + b"\xc3"
    text[0x900:0x907] = bytes.fromhex("c4637bf0ea19c3")
    init = constant(2, avx2) + b"\xeb\x07" + constant(2, sse)
    init += constant(6, trampoline(0)) + constant(7, KEYS) + b"\xe8" + bytes(4)
    section = ElfSection(".init.text", INIT, init.ljust(0x1000, b"\xc3"), ALLOC | EXECUTE)
    opened = small.kernel(bytes(text), SMALL, more=[section])

    def goes(flags: str) -> int:
        words = predict(Machine.from_dict({"flags": flags, "bugs": ""}), opened)
        return predict_calls(words, opened)[trampoline(0)].function

    assert goes("fpu ssse3 avx avx2 bmi2") == avx2
    assert goes("fpu ssse3 avx") == sse
    assert goes("fpu") == plain

    def assumed(log: str) -> int:
        words = predict(Machine.from_dict({"dmesg": f"[    0.1] x86/fpu: {log}\n"}), opened)
        return predict_calls(words, opened)[trampoline(0)].function

    # A kernel that prints no flags says which registers it saves.
    assert assumed("Supporting XSAVE feature 0x004: 'AVX registers'") == avx2
    assert assumed("x87 FPU will use FXSAVE") == sse
    assert assumed("something else") == plain
