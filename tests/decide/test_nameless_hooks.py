"""Security modules' hooks of an image without symbols (6.12 and later) are told by the code that registers them."""

from __future__ import annotations

import struct

import pytest

from image import small
from pvops.assembler.elf import ALLOC, EXECUTE, ElfSection
from pvops.decide.answers import Facts
from pvops.decide.keys import predict_calls, predict_keys
from pvops.decide.lsm import order
from pvops.decide.prediction import predict
from pvops.kernel import Kernel
from pvops.machine.machine import Machine

HOOKS, MODULES = 12, 2
ROWS = HOOKS * MODULES
YAMA = 6
INIT, LABELS, CALLS = (small.TEXT + at for at in (0x60_0000, 0x70_0000, 0x80_0000))
SITES, LABELLED, FUNCTIONS = small.TEXT + 0x200, small.TEXT + 0x600, small.TEXT + 0xA00
KEYS, ACTIVE, TABLE, LISTS, IDS, NAMES = (small.DATA + at for at in (0x400, 0x800, 0xC00, 0x1000, 0x1400, 0x1500))
TRAMPOLINE = bytes.fromhex("c3cc9090900fb9cc")
OTHERS = LISTS + HOOKS * 24


def constant(register: int, value: int) -> bytes:
    return bytes((0x48, 0xC7, 0xC0 | register)) + struct.pack("<I", value & 0xFFFF_FFFF)


def relative(here: int, to: int) -> bytes:
    return struct.pack("<i", to - here)


def registers(handed_on: bool) -> bytes:
    """The init code of two modules; a caller may hand the second to the function that adds its list."""
    code = constant(2, IDS) + b"\xbe" + struct.pack("<I", HOOKS) + constant(7, LISTS) + b"\xe8" + bytes(4)
    add = b"\xbe" + struct.pack("<I", YAMA) + constant(7, OTHERS) + b"\xe9" + bytes(4)
    if not handed_on:
        return code + constant(2, IDS + 16) + add
    function = INIT + 0x100
    code += constant(7, IDS + 16)
    code += b"\xe8" + relative(INIT + len(code) + 5, function)
    return code.ljust(0x100, b"\xcc") + b"\x48\x89\xfa" + add


def kernel(handed_on: bool = False) -> Kernel:
    text = bytearray(TRAMPOLINE * ROWS).ljust(0x1000, b"\xcc")
    labels = calls = b""
    data = bytearray(0x2000)
    for row in range(ROWS):
        site, label = SITES + 16 * row, LABELLED + 16 * row
        text[site - small.TEXT : site - small.TEXT + 5] = b"\xe8" + relative(site + 5, small.TEXT + 8 * row)
        text[label - small.TEXT : label - small.TEXT + 5] = bytes.fromhex("0f1f440000")
        here = LABELS + 16 * row
        labels += struct.pack("<iiq", label - here, label + 8 - here - 4, ACTIVE + 16 * row - here - 8)
        here = CALLS + 8 * row
        calls += relative(here, site) + relative(here + 4, KEYS + 16 * row)
        fields = (KEYS + 16 * row, small.TEXT + 8 * row, 0, ACTIVE + 16 * row)
        struct.pack_into("<4Q", data, TABLE - small.DATA + 32 * row, *fields)
    for index in range(HOOKS + YAMA):
        text[FUNCTIONS - small.TEXT + 4 * index] = 0xC3
        first = TABLE + 32 * MODULES * (index % HOOKS)
        struct.pack_into("<3Q", data, LISTS - small.DATA + 24 * index, first, FUNCTIONS + 4 * index, 0)
    struct.pack_into("<4Q", data, IDS - small.DATA, NAMES, 100, NAMES + 16, 107)
    data[NAMES - small.DATA : NAMES - small.DATA + 21] = b"capability\0".ljust(16, b"\0") + b"yama\0"
    return small.kernel(
        bytes(text),
        [small.Alternative(0xC00, 3, 9 * 32 + 20, bytes.fromhex("0f01ca"))],
        data=bytes(data),
        stripped=True,
        more=[
            ElfSection(".init.text", INIT, registers(handed_on).ljust(0x1000, b"\xc3"), ALLOC | EXECUTE),
            ElfSection(".jump_table_of_a_linker", LABELS, labels, ALLOC),
            ElfSection(".static_calls_of_a_linker", CALLS, calls, ALLOC),
        ],
    )


def hooked(opened: Kernel, modules: str) -> dict[int, int]:
    """Row → the function of the hook in it, numbered, for those that are called."""
    machine = Machine.from_dict({"dmesg": f"[    0.0] Linux version\n[    0.1] LSM: initializing lsm={modules}\n"})
    words = predict(machine, opened)
    keys, calls = predict_keys(words, opened), predict_calls(words, opened)
    found = {}
    for row in range(ROWS):
        if keys[ACTIVE + 16 * row].enabled:
            found[row] = (calls[KEYS + 16 * row].function - FUNCTIONS) // 4
        else:
            assert calls[KEYS + 16 * row].function == 0
    return found


@pytest.mark.parametrize("handed_on", [False, True])
def test_each_module_takes_the_next_free_row_of_its_hooks(handed_on: bool) -> None:
    opened = kernel(handed_on)
    first = {MODULES * hook: hook for hook in range(HOOKS)}
    second = {MODULES * hook + 1: HOOKS + hook for hook in range(YAMA)}
    assert hooked(opened, "capability,yama") == first | second
    assert hooked(opened, "capability") == first
    # In the other order yama's come first, and capability's stand behind them where there are any.
    before = {MODULES * hook + (hook < YAMA): hook for hook in range(HOOKS)}
    assert hooked(opened, "yama,capability") == before | {MODULES * hook: HOOKS + hook for hook in range(YAMA)}


def test_without_a_log_the_modules_are_those_that_register() -> None:
    opened = kernel()
    words = predict(Machine.from_dict({"cmdline": "lsm=yama"}), opened)
    on = [row for row in range(ROWS) if predict_keys(words, opened)[ACTIVE + 16 * row].enabled]
    assert on == sorted([*range(0, ROWS, MODULES), *range(1, MODULES * YAMA, MODULES)])


BUILT = frozenset(
    {"lockdown", "capability", "landlock", "yama", "apparmor", "selinux", "smack", "tomoyo", "bpf", "ima"}
)


@pytest.mark.parametrize(
    ("cmdline", "modules"),
    [
        ("quiet", "landlock yama apparmor tomoyo bpf"),
        ("apparmor=0", "landlock yama selinux tomoyo bpf"),
        ("security=selinux", "landlock yama selinux bpf"),
        ("security=tomoyo", "landlock yama tomoyo bpf"),
        ("security=none", "landlock yama bpf"),
        ("lsm=bpf,smack,selinux", "bpf smack"),
        ("lsm=yama security=selinux", "yama"),
        ("lsm=", ""),
    ],
)
def test_the_command_line_orders_modules_where_no_log_does(cmdline: str, modules: str) -> None:
    facts = Facts(Machine(cmdline=cmdline), (7, 2), 64)
    found, _ = order(small.kernel(b"\x90" * 64), facts, BUILT)
    assert found == ["lockdown", "capability", *modules.split(), "ima"]
