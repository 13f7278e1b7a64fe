"""Every feature that a row asks for, the return thunk and the lock prefixes, on every boot."""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import replace

import pytest

from decide import boots
from kernels.given import given
from pvops.decide.prediction import predict
from pvops.decide.returns import return_thunk, uniprocessor

pytestmark = pytest.mark.kernels


def test_there_are_boots() -> None:
    given("boots")
    assert boots.names()


#: The boots whose feature words are known; those of i386 are not, and their text is compared instead.
_KEYED = [name for name in boots.names() if "x86_capability" in boots.answers(name)]


@pytest.mark.parametrize("boot", _KEYED)
def test_every_feature_that_a_row_asks_for(boot: str) -> None:
    key = boots.answers(boot)["x86_capability"]
    words = boots.words(boot)
    held = [int(word, 16) for word in key]
    wrong = [
        f"{feature.name.name}: {feature.guess}, held {bool(held[number // 32] >> number % 32 & 1)} ({feature.source})"
        for feature in words
        if feature.guess != bool(held[(number := feature.name.number) // 32] >> number % 32 & 1)
    ]
    print(
        f"{boot}: {len(words.numbers.consulted())} features, {len(words.unknown())} unknown, {len(wrong)} wrong", *wrong
    )
    assert not wrong
    assert all(feature.source and feature.name.source for feature in words)


@pytest.mark.parametrize("boot", [name for name in boots.names() if name.startswith(("5.10.", "6.1."))])
def test_the_text_agrees(boot: str) -> None:
    """Rows alone at their site, whose replacement is copied as it is: taken exactly where the prediction says so."""
    words, memory, image = boots.words(boot), boots.Memory(boot), boots.kernel(boot.partition("~")[0]).image
    alone = Counter(row.address for row in words.numbers.rows)
    seen, wrong = 0, []
    for row in words.numbers.rows:
        if alone[row.address] > 1 or row.address not in memory or not row.code or row.code[0] in (0xE8, 0xE9):
            continue
        built = image.read(row.address, row.length) or b""
        if built[: len(row.code)] == row.code:
            continue
        seen += 1
        taken = memory.read(row.address, len(row.code)) == row.code
        if taken != words[row.number].guess ^ row.inverted:
            wrong.append(f"{row.address:#x} {words[row.number].name.name}: {words[row.number].source}")
    assert seen > 100
    assert not wrong


@pytest.mark.parametrize("boot", boots.names())
def test_the_return_thunk(boot: str) -> None:
    held = boots.answers(boot).get("return_thunk")
    thunk = return_thunk(boots.words(boot), boots.kernel(boot.partition("~")[0]))
    if held is not None:
        assert thunk.symbol == held, thunk.source


@pytest.mark.parametrize("boot", boots.names())
def test_the_return_thunk_without_the_log(boot: str) -> None:
    """The rules agree with the line of the log that usually tells."""
    machine, kernel = boots.machine(boot), boots.kernel(boot.partition("~")[0])
    log = "\n".join(line for line in machine.dmesg.splitlines() if "active return thunk" not in line)
    machine = replace(machine, dmesg=log)
    words = predict(machine, kernel)
    thunk = return_thunk(words, kernel)
    held = boots.answers(boot).get("return_thunk")
    if held is not None:
        assert thunk.symbol == held, thunk.source


@pytest.mark.parametrize("boot", boots.names())
def test_lock_prefixes(boot: str) -> None:
    kernel, memory = boots.kernel(boot.partition("~")[0]), boots.Memory(boot)
    address, size = next((a, s) for name, a, s, _ in kernel.image.sections() if name == ".smp_locks")
    mask = (1 << kernel.bits) - 1
    raw = kernel.image.read(address, size) or b""
    offsets = [o for (o,) in struct.iter_unpack("<i", raw)]
    sites = [site for i, o in enumerate(offsets) if o and (site := (address + 4 * i + o) & mask) in memory]
    patched = sum(memory.read(site, 1) == b"\x3e" for site in sites)
    answer = uniprocessor(boots.machine(boot), kernel)
    assert answer.value == (patched > 0), answer.source


@pytest.mark.parametrize("release", boots.kernels())
def test_every_number_has_a_name(release: str) -> None:
    boot = next(name for name in boots.names() if name.startswith(f"{release}~"))
    numbers = boots.words(boot).numbers
    assert [n for n in numbers.consulted() if n not in numbers.by_number] == []
    assert [name for name in numbers.by_number.values() if not name.verified] == []


@pytest.mark.parametrize("boot", [n for n in _KEYED if n.endswith("native-max-smp2")])
def test_words_are_the_kernels_own(boot: str) -> None:
    """All named bits, not only those that rows ask for: printed ones at least agree."""
    key = boots.answers(boot)["x86_capability"]
    words = boots.words(boot)
    held = [int(word, 16) for word in key]
    printed = [n for n in words.numbers.by_number.values() if n.printed and n.number < len(held) * 32]
    wrong = [n.name for n in printed if words[n.number].guess != bool(held[n.number // 32] >> n.number % 32 & 1)]
    assert not wrong
    assert len(words.words()) == words.numbers.ncapints + words.numbers.nbugints


_SAID = ("spectre_v2", "retbleed", "spec_rstack_overflow", "indirect_target_selection")


@pytest.mark.parametrize("boot", _KEYED)
def test_without_vulnerabilities_and_log(boot: str) -> None:
    """What the rules choose from CPU and command line alone is what these kernels chose."""
    key = boots.answers(boot)["x86_capability"]
    machine, kernel = boots.machine(boot), boots.kernel(boot.partition("~")[0])
    files = machine.vulnerabilities.items() if machine.has_option("mitigations") else ()
    machine = replace(machine, vulnerabilities={name: text for name, text in files if name not in _SAID})
    words = predict(machine, kernel)
    held = [int(word, 16) for word in key]
    asked = (
        "RETPOLINE",
        "RETPOLINE_LFENCE",
        "KERNEL_IBRS",
        "RSB_CTXSW",
        "RETHUNK",
        "UNRET",
        "ENTRY_IBPB",
        "CLEAR_CPU_BUF",
    )
    wrong = {}
    for feature in filter(None, map(words.named, asked)):
        number = feature.name.number
        if feature.guess != bool(held[number // 32] >> number % 32 & 1):
            wrong[feature.name.name] = feature.source
    assert not wrong
