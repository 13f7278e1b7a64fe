"""Static keys and static calls: the predictions against every jump label and every call site of every boot."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import pytest

from decide import boots
from pvops.decide.keys import predict_calls, predict_keys
from pvops.kernel import Kernel

pytestmark = pytest.mark.kernels

_NOPS = (b"\x0f\x1f\x44\x00\x00", b"\x66\x66\x66\x66\x90")
_ZERO = b"\x2e\x2e\x2e\x31\xc0"
_WARN = b"\x67\x48\x0f\xb9\x3a"


def _boots() -> list[str]:
    return [name for name in boots.names() if "-686-" not in name]


class _Use(NamedTuple):
    address: int
    key: int
    inverted: bool


def _uses(kernel: Kernel, table: str) -> list[_Use]:
    rows = kernel.tables.rows(table)
    return [_Use(address, key, bool(inverted)) for _, address, _, _, inverted, _, key, _ in rows if key is not None]


def _jumps(code: bytes) -> bool:
    return code[0] in (0xEB, 0xE9)


@pytest.mark.parametrize("boot", boots.names())
def test_jump_labels(boot: str) -> None:
    kernel, memory = boots.kernel(boot.partition("~")[0]), boots.Memory(boot)
    states = predict_keys(boots.words(boot), kernel)
    wrong: Counter[str] = Counter()
    uses = [use for use in _uses(kernel, "jump_labels") if use.address in memory]
    for use in uses:
        state = states[use.key]
        if _jumps(memory.read(use.address, 5)) ^ use.inverted != state.enabled:
            wrong[f"{state.symbol}: {state.enabled} ({state.source})"] += 1
    print(f"{boot}: {len(uses)} jump labels, {sum(wrong.values())} wrong", *wrong.most_common(20))
    assert len(uses) > 3000
    assert sum(wrong.values()) <= len(uses) // 1000


@pytest.mark.parametrize("boot", _boots())
def test_static_calls(boot: str) -> None:
    kernel, memory = boots.kernel(boot.partition("~")[0]), boots.Memory(boot)
    states = predict_calls(boots.words(boot), kernel)
    zero, warn = kernel.address_of("__static_call_return0"), kernel.address_of("__WARN_trap")
    wrong: Counter[str] = Counter()
    uses = [use for use in _uses(kernel, "static_calls") if use.address in memory]
    for use in uses:
        state, code = states[use.key], memory.read(use.address, 5)
        if code == _ZERO:
            good = state.function == zero
        elif code == _WARN:
            good = state.function == warn
        elif code in _NOPS or code[0] == 0xC3:
            good = not state.function
        else:
            target = (use.address + 5 + int.from_bytes(code[1:], "little", signed=True)) & (1 << 64) - 1
            thunk = (kernel.symbol_at(target) or "").endswith("return_thunk")
            good = target == state.function or (not state.function and thunk)
        if not good:
            wrong[f"{state.symbol}: {kernel.place(state.function)} ({state.source})"] += 1
    print(f"{boot}: {len(uses)} static call sites, {sum(wrong.values())} wrong", *wrong.most_common(20))
    assert len(uses) > 1000
    assert sum(wrong.values()) <= len(uses) // 1000


@pytest.mark.parametrize("boot", _boots())
def test_provenance(boot: str) -> None:
    kernel, words = boots.kernel(boot.partition("~")[0]), boots.words(boot)
    assert all(state.source for state in predict_keys(words, kernel).values())
    assert all(state.source for state in predict_calls(words, kernel).values())
