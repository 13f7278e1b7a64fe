"""Keys of an image without symbols are told by what stands behind their labels."""

from __future__ import annotations

import struct

import pytest

from image import small
from pvops.assembler.elf import ALLOC, ElfSection
from pvops.decide.keys import predict_keys
from pvops.decide.netfilter import KeyArray, by_calls, unnamed
from pvops.decide.prediction import predict
from pvops.kernel import Kernel
from pvops.machine.machine import Machine

TABLE, OTHERS = small.TEXT + 0x60_0000, 20
PLAIN, ASKED = small.DATA + 0x10, small.DATA + 0x20
NOP = bytes.fromhex("0f1f440000")
#: sched_clock_stable(), and what get_timer_this_cpu_base() begins with.
STABLE = bytes.fromhex("e906000000 b801000000 c3 31c0 c3")
PINNED = bytes.fromhex("e90d000000 41f7c500001000 0f8453010000")


def kernel(code: bytes, labels: int) -> Kernel:
    """Twenty labels of one key, and of another this code with some more labels."""
    text = bytearray((NOP + b"\x90" * 27) * (OTHERS + labels)).ljust(0x1000, b"\xc3")
    text[32 * OTHERS : 32 * OTHERS + len(code)] = code
    rows = b""
    for row in range(OTHERS + labels):
        here, at = TABLE + 16 * row, small.TEXT + 32 * row
        key = PLAIN if row < OTHERS else ASKED
        # A label that is built as a jump goes where it jumps.
        target = at + 5 + code[1] if row == OTHERS else at + 16
        rows += struct.pack("<iiq", at - here, target - here - 4, key - here - 8)
    asked = small.Alternative(0xC00, 3, 9 * 32 + 20, bytes.fromhex("0f01ca"))
    table = ElfSection(".jump_table_of_a_linker", TABLE, rows, ALLOC)
    return small.kernel(bytes(text), [asked], release="5.4.0-small", more=[table], stripped=True)


def enabled(opened: Kernel, **given: object) -> tuple[str | None, bool]:
    words = predict(Machine.from_dict(given), opened)
    keys = predict_keys(words, opened)
    assert keys[PLAIN].symbol is None
    return keys[ASKED].symbol, keys[ASKED].enabled


@pytest.mark.parametrize(("log", "on"), [("sched_clock: Marking stable (1, 0)->(2, -1)", True), ("nothing", False)])
def test_the_clock_is_told_by_the_function_that_returns_whether_it_is_stable(log: str, on: bool) -> None:
    dmesg = f"[    0.0] Linux version 5.4.0-small\n[    1.2] {log}\n"
    assert enabled(kernel(STABLE, 4), dmesg=dmesg) == ("__sched_clock_stable", on)


def test_a_function_alone_that_returns_its_key_is_any() -> None:
    assert enabled(kernel(STABLE, 1)) == (None, False)


@pytest.mark.parametrize(("cmdline", "on"), [("quiet", True), ("nohz=off", False)])
def test_migration_of_timers_is_told_by_what_is_asked_next(cmdline: str, on: bool) -> None:
    assert enabled(kernel(PINNED, 1), cmdline=cmdline) == ("timers_migration_enabled", on)


#: Key → code behind a label of it, and a log that says what it is.
CODES = {
    "crng_is_ready": ("e90a000000 b801000000 e900000000 833d0000000001 0f97c0", "random: crng init done"),
    "cr_pinning": ("e90d000000 f7c700000100 742d", "any"),
    "__use_tsc": ("e973000000 55 4889e5 0f31 65ff05", "any"),
    "check_pages_enabled": ("0f1f440000 31c0 48c7431800000000", "mem auto-init: heap alloc:on, heap free:off"),
    "clocksource_read_inlined": ("e96f000000 0f31 909090 48c1e220", "clocksource: Switched to clocksource tsc"),
}


#: native_sched_clock() where the TSC is the less likely way: x86-64 at 300 Hz, i386 at 1000 Hz with its no-op as built.
JIFFIES = ("0f1f440000 48691500908900d5dc3200 48b8d0", "3e8d742600 691d44a271c140420f00 b8")


@pytest.mark.parametrize("code", JIFFIES)
def test_a_clock_that_counts_jiffies_where_it_may_not_read_the_tsc_tells_its_key(code: str) -> None:
    opened = kernel(bytes.fromhex(code), 1)
    assert enabled(opened, flags="fpu tsc") == ("__use_tsc", True)
    assert enabled(opened, flags="fpu") == ("__use_tsc", False)


@pytest.mark.parametrize(("key", "code", "log"), [(key, *said) for key, said in CODES.items()])
def test_what_stands_behind_a_label_tells_its_key(key: str, code: str, log: str) -> None:
    opened = kernel(bytes.fromhex(code), 6)
    assert enabled(opened, dmesg=f"[    1.2] {log}\n", flags="fpu tsc") == (key, True)


@pytest.mark.parametrize(
    ("behind", "key"),
    [("5b 415c 5d c3", "mds_user_clear"), ("c3", "mds_user_clear"), ("fbf4", "mds_idle_clear"), ("4889e7", None)],
)
def test_what_is_done_behind_verw_tells_on_which_way_it_is(behind: str, key: str | None) -> None:
    opened = kernel(bytes.fromhex("e907000000 0f002debc19f00" + behind), 1)
    affected = {"mds": "Vulnerable: Clear CPU buffers attempted, no microcode; SMT vulnerable"}
    told = enabled(opened, vulnerabilities=affected, online_cpus=1)
    assert told == (key, key == "mds_user_clear")


def test_the_array_of_netfilters_keys_is_told_by_its_gaps() -> None:
    base, key, hooks = 0x1000, 16, 5
    of_ipv4 = [base + (2 * hooks + hook) * key for hook in range(5)]
    of_arp = [base + (3 * hooks + hook) * key for hook in range(2)]
    of_ipv6 = [base + (10 * hooks + hook) * key for hook in range(5)]
    array = KeyArray(base, key, hooks)
    assert unnamed([*of_ipv4, *of_arp], of_ipv4) == array
    assert (array.place(of_ipv6[4]), array.at(10, 4)) == ((10, 4), of_ipv6[4])
    dense = [0x8000 + key * index for index in range(200)]
    assert unnamed(dense, dense) is None
    # Another array that lies so, without IPv6's hooks.
    other = [at + 0x4000 for at in (*of_ipv4, *of_arp)]
    both = [*of_ipv4, *of_arp, *other]
    assert unnamed(both, both) is None
    assert unnamed([*both, *of_ipv6], both) == array


def calls_of_hooks(*places: tuple[int, int], function: int = 0x1000) -> bytes:
    """Code for each, of 64 bytes: two arguments, and a call of ``nf_hook_slow()``, so far behind the first."""
    code = b""
    for protocol, hook in places:
        given = b"\x48\x89\xda\xbe%c\0\0\0\xbf%c\0\0\0" % (hook, protocol)
        distance = function - len(code) - len(given) - 5
        code += (given + b"\xe8" + struct.pack("<i", distance) + b"\xff\xc8").ljust(64, b"\x90")
    return code


def test_the_array_of_netfilters_keys_is_told_by_what_its_labels_call() -> None:
    base, key, hooks = 0xFFFF_FFFF_81A0_0000, 24, 8
    places = [(2, 2), (2, 3), (10, 3)]
    others = calls_of_hooks((1, 1), (7, 1), function=0x2000)
    opened = small.kernel(calls_of_hooks(*places) + b"\x90" * 64 + others)
    start = opened.lowest
    keys = [base + (protocol * hooks + hook) * key for protocol, hook in places]
    labels = [(at, start + 64 * i) for i, at in enumerate(keys)]
    other = (base - 0x4000, start + 64 * 3)  # a label of another key: no call behind it
    assert by_calls(opened, [*labels, other]) == KeyArray(base, key, hooks)
    elsewhere = [(base - 0x5000 + 8 * i, start + 64 * (4 + i)) for i in range(2)]  # labels that call something else so
    assert by_calls(opened, [*labels, *elsewhere]) == KeyArray(base, key, hooks)
    assert by_calls(opened, labels[:1]) is None
    assert by_calls(opened, [*labels, (other[0], labels[0][1])]) is None, "two keys of one place"
    assert by_calls(opened, [(at + 8, target) if at == keys[2] else (at, target) for at, target in labels]) is None
