"""Static keys and static calls after boot, as predictions: the first guess for bytes that no fact of the image decides.

`predict_keys` says which keys are on, `predict_calls` where static calls go, each with its provenance. What has no rule
keeps what the image is built with: most keys are only ever turned by user space.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

from pvops.decide import debugging, lsm, netfilter, trace_events
from pvops.decide.calls import PREFIX, CallTarget, calls, unnamed
from pvops.decide.key_codes import by_code
from pvops.decide.key_conditions import KeyQuery
from pvops.decide.key_rules import RULES, by_place
from pvops.image import uses
from pvops.tuples import NamedTuple
from pvops.types_only import Generic, TypeVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.decide.prediction import FeatureWords
    from pvops.image.kernel_image import KernelImage


class KeyState(NamedTuple):
    """One static key.

    Attributes:
        address: of the key.
        symbol: its name, with an offset where it is one of an array; None where the image names no data.
        enabled: whether it is on after boot.
        initial: whether it is built on.
        source: where it is known from.
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
        source: where it is known from.
        early: it goes there before the initcalls, not only at the end of the boot.
    """

    key: int
    symbol: str | None
    function: int
    initial: int
    source: str
    early: bool = False


_BUILT = "as built"

S = TypeVar("S")
V = TypeVar("V")


class States(Mapping[int, S], Generic[S, V]):
    """A state by address: of a key, or of a call. Each is made when it is asked for, since a kernel has thousands.

    Args:
        addresses: of all.
        make: makes the state at an address.
        changed: what those are changed to that a boot does not leave as built.
    """

    def __init__(self, addresses: Mapping[int, object], make: Callable[[int], S], changed: Mapping[int, V]) -> None:
        self._addresses, self._make = addresses, make
        self.changed = changed

    def __getitem__(self, address: int) -> S:
        if address not in self._addresses:
            raise KeyError(address)
        return self._make(address)

    def __iter__(self) -> Iterator[int]:
        return iter(self._addresses)

    def __len__(self) -> int:
        return len(self._addresses)


def predict_keys(words: FeatureWords, kernel: KernelImage) -> States[KeyState, bool]:
    """Every key that a jump label uses, by address.

    Args:
        words: the machine's features under this kernel.
        kernel: the kernel.
    """
    hooks = lsm.hooks(kernel, words.facts)
    packets = netfilter.registered(kernel, words.facts.version)
    keys = {found[0]: found for found in kernel.keep(_keys)}
    messages = debugging.printed(kernel, words.facts, keys)
    events = trace_events.traced(kernel, words.facts, keys)
    array = None
    if not kernel.image.symbol_count():
        array = netfilter.unnamed(keys, keys)
        if array is None and words.facts.version < netfilter.CALLED:
            array = netfilter.by_calls(kernel, _labels(kernel))

    def state(address: int) -> KeyState:
        _, initial, place = keys[address]
        if address in events.keys:
            shown = place[0] if place is not None else None
            return KeyState(address, shown, True, initial, events.keys[address])
        if address in messages:
            shown = place[0] if place is not None else None
            return KeyState(address, shown, messages[address], initial, "rule lib/dynamic_debug.c: ddebug_change()")
        return _state(words, kernel, _Key(address, initial, uses.place_in_data(place)), hooks, packets, array)

    # Thousands since 6.12 are hooks', of which one list tells all.
    hooked: Collection[int] = hooks.all_keys if hooks is not None else ()
    told = {*messages, *events.keys}
    changed = {}
    for address, initial, place in keys.values():
        if address in hooked and hooks is not None and address not in told:
            enabled = address in hooks.keys
        elif address in told or uses.place_in_data(place) is None or _is_ruled(place):
            enabled = state(address).enabled
        else:
            continue
        if enabled != initial:
            changed[address] = enabled
    return States(keys, state, changed)


def _is_ruled(place: tuple[str, int] | None) -> bool:
    name = place[0] if place is not None else ""
    return name in RULES or name in _BY_PLACE or ("." in name and name.partition(".")[0] in RULES)


def _labels(kernel: KernelImage) -> list[tuple[int, int]]:
    """Key and target of each jump label."""
    rows = kernel.tables.rows("jump_labels")
    return [(key, target) for *_, key, target in rows if key is not None and target is not None]


def _keys(kernel: KernelImage) -> list[tuple[int, bool, tuple[str, int] | None]]:
    return kernel.tables.static_keys()


#: Keys in arrays, which `netfilter` tells apart.
_BY_PLACE = frozenset({"nf_hooks_needed"})
#: NFPROTO_NUMPROTO, NF_MAX_HOOKS.
_PROTOCOLS, _HOOKS = 13, 5


class _Key(NamedTuple):
    """A key in the image: its address, whether it is built on, the symbol of data and the offset."""

    address: int
    initial: bool
    place: tuple[str, int] | None

    def functions(self, kernel: KernelImage) -> list[str]:
        """Those that its sites stand in."""
        found = (kernel.image.symbol_at(site) for site in kernel.tables.sites_of_key(self.address))
        return [place[0] for place in found if place is not None]


def _shown(name: str, offset: int) -> str:
    """A symbol of data, with the offset where it is an array's."""
    return f"{name}+{offset:#x}" if offset else name


def _state(
    words: FeatureWords,
    kernel: KernelImage,
    of: _Key,
    hooks: lsm.Hooks | None,
    packets: Mapping[tuple[int, int], str],
    array: netfilter.KeyArray | None,
) -> KeyState:
    key, initial, found = of
    if hooks is not None and key in hooks.all_keys:
        return KeyState(
            key, _shown(*found) if found else None, key in hooks.keys, initial, f"security modules: {hooks.source}"
        )
    named, offset = found or (None, 0)
    if packets and named in (None, "nf_hooks_needed"):
        size = uses.size_of_data(kernel, key - offset, named) if named is not None else 0
        place = array.place(key) if array is not None else None
        if answer := netfilter.state(packets, named, offset, size, of.functions(kernel), place):
            shown = _shown(named or "nf_hooks_needed", offset)
            return KeyState(key, shown, answer.best, initial, f"rule net/netfilter/core.c: {answer.source}")
    if found is None:
        point = uses.tracepoint(kernel, key)
        guessed = (
            f"__tracepoint_{point}"
            if point
            else by_place(of.functions(kernel)) or by_code(kernel, kernel.tables.sites_of_key(key))
        )
        found = (guessed, 0) if guessed else None
        protocol, hook = array.place(key) if array is not None and not guessed else (-1, 0)
        if 0 <= protocol < _PROTOCOLS:
            # As in an array of 5 hooks a protocol and keys of 16 bytes.
            found = ("nf_hooks_needed", (protocol * _HOOKS + hook) * 16)
    if found is None:
        return KeyState(key, None, initial, initial, _BUILT)
    name, offset = found
    shown = _shown(name, offset)
    entry = RULES.get(name) or RULES.get(name.partition(".")[0])
    if entry is not None:

        def whole() -> int:
            return uses.size_of_data(kernel, key - offset, name) if offset else 0

        modules = hooks.modules if hooks is not None else None
        answer = entry.rule(KeyQuery(words.facts, words, offset, whole, lambda: of.functions(kernel), modules))
        if answer is not None and answer.value is not None:
            return KeyState(key, shown, answer.value, initial, f"rule {entry.restates}: {answer.source}")
    return KeyState(key, shown, initial, initial, _BUILT)


def predict_calls(words: FeatureWords, kernel: KernelImage) -> States[CallState, int]:
    """Every static call that is patched, by the address of its key; of its trampoline where nothing tells the key."""
    known = calls(words, kernel)
    hooks = lsm.hooks(kernel, words.facts)
    names = kernel.keep(uses.calls)
    known |= _traced(words, kernel)
    by_code = {} if all(call.name for call in names.values()) else unnamed(words, kernel)

    def state(key: int) -> CallState:
        call = names[key]
        target = known.get(call.name) if call.name else by_code.get(key)
        return _call(kernel, key, call, target, hooks)

    hooked = hooks.calls if hooks is not None else {}
    changed = {}
    for key, call in names.items():
        if key in hooked:
            if hooked[key] != call.built:
                changed[key] = hooked[key]
        elif call.name in known or key in by_code:
            now = state(key)
            if now.function != now.initial or now.early:
                changed[key] = now.function
    return States(names, state, changed)


def _traced(words: FeatureWords, kernel: KernelImage) -> dict[str, CallTarget]:
    """Where the static calls of traced tracepoints go (5.10 on): to the one function of each that has one."""
    if words.facts.given(*_TRACING) is None:
        return {}
    keys = {found[0] for found in kernel.keep(_keys)}
    functions = trace_events.traced(kernel, words.facts, keys).functions.items()
    source = "a tracepoint that the command line turns on: tracepoint_update_call()"
    return {f"tp_func_{name}": CallTarget(None, source, address=place) for name, place in functions if place}


#: Options that turn tracepoints on.
_TRACING = ("trace_event", "trace_instance", "trace_trigger", "initcall_debug")


def _call(
    kernel: KernelImage, key: int, call: uses.Call, target: CallTarget | None, hooks: lsm.Hooks | None
) -> CallState:
    symbol = f"{PREFIX}{call.name}" if call.name else None
    initial = call.built
    if hooks is not None and key in hooks.calls:
        return CallState(key, symbol, hooks.calls[key], initial, f"security modules: {hooks.source}")
    if target is None:
        return CallState(key, symbol, initial, initial, _BUILT)
    address = target.address
    if address is None:
        address = kernel.address_of(target.symbol) if target.symbol is not None else 0
    if address is None:
        source = f"{_BUILT}: no symbol {target.symbol}, where {target.source} leads"
        return CallState(key, symbol, initial, initial, source)
    return CallState(key, symbol, address, initial, target.source, target.early)
