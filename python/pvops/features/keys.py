"""Static keys and static calls after boot, as predictions: the first guess for bytes that no fact of the image decides.

`predict_keys` says which keys are on, `predict_calls` where static calls go, each with its provenance. What has no rule
keeps what the image is built with: most keys are only ever turned by user space.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from pvops.features import keyed, lsm
from pvops.features.calls import PREFIX, Goes, calls
from pvops.features.key_asks import Asked
from pvops.features.key_rules import RULES

if TYPE_CHECKING:
    from pvops.features.prediction import FeatureWords
    from pvops.kernel import Kernel


class KeyState(NamedTuple):
    """One static key.

    Attributes:
        address: of the key.
        symbol: its name, with an offset where it is one of an array; None where the image names no data.
        enabled: whether it is on after boot.
        initial: whether it is built on.
        source: what told.
    """

    address: int
    symbol: str | None
    enabled: bool
    initial: bool
    source: str


class CallState(NamedTuple):
    """One static call.

    Attributes:
        key: address of its key, ``__SCK__NAME``.
        symbol: name of the key; None where the image names no data.
        function: address of the function it goes to; 0 for NULL.
        initial: the function it is built with; 0 for NULL.
        source: what told.
    """

    key: int
    symbol: str | None
    function: int
    initial: int
    source: str


_BUILT = "as built"


def predict_keys(words: FeatureWords, kernel: Kernel) -> dict[int, KeyState]:
    """Every key that a jump label uses, by address."""
    places: dict[int, list[int]] = {}
    for use in keyed.jump_labels(kernel):
        places.setdefault(use.key, []).append(use.address)
    hooks = lsm.hooks(kernel, words.facts)
    return {key: _state(words, kernel, key, sites, hooks) for key, sites in places.items()}


def _state(words: FeatureWords, kernel: Kernel, key: int, sites: list[int], hooks: lsm.Hooks | None) -> KeyState:
    raw = kernel.image.read(key, 4)
    initial = raw is not None and int.from_bytes(raw, "little", signed=True) > 0
    found = keyed.name_of(kernel, key)
    if found is None:
        return KeyState(key, None, initial, initial, _BUILT)
    name, offset = found
    shown = f"{name}+{offset:#x}" if offset else name
    if hooks is not None and name.startswith("security_hook_active_"):
        on = key in hooks.keys
        return KeyState(key, shown, on, initial, f"security modules: {hooks.source}")
    entry = RULES.get(name) or RULES.get(name.partition(".")[0])
    if entry is not None:
        functions = [place for site in sites if (place := kernel.place(site)) is not None]
        answer = entry.rule(Asked(words.facts, words, offset, [f.partition("+")[0] for f in functions]))
        if answer is not None and answer.value is not None:
            return KeyState(key, shown, answer.value, initial, f"rule {entry.restates}: {answer.source}")
    return KeyState(key, shown, initial, initial, _BUILT)


def predict_calls(words: FeatureWords, kernel: Kernel) -> dict[int, CallState]:
    """Every static call that has sites patched in place, by the address of its key."""
    known = calls(words, kernel)
    hooks = lsm.hooks(kernel, words.facts)
    return {key: _call(kernel, key, known, hooks) for key in sorted({use.key for use in keyed.static_calls(kernel)})}


def _call(kernel: Kernel, key: int, known: dict[str, Goes], hooks: lsm.Hooks | None) -> CallState:
    initial = kernel.read_word(key) or 0
    found = keyed.name_of(kernel, key)
    symbol = found[0] if found and not found[1] else None
    if hooks is not None and key in hooks.calls:
        return CallState(key, symbol, hooks.calls[key], initial, f"security modules: {hooks.source}")
    goes = known.get(symbol.removeprefix(PREFIX)) if symbol else None
    if goes is None:
        return CallState(key, symbol, initial, initial, _BUILT)
    if goes.symbol is None:
        return CallState(key, symbol, 0, initial, goes.source)
    address = kernel.address_of(goes.symbol)
    if address is None:
        return CallState(key, symbol, initial, initial, f"{_BUILT}: no symbol {goes.symbol}, where {goes.source} leads")
    return CallState(key, symbol, address, initial, goes.source)


def changed(states: dict[int, KeyState]) -> Iterator[KeyState]:
    """The keys that the boot changes."""
    return (state for state in states.values() if state.enabled != state.initial)
