"""The values that `Machine` is made of, each held to the type that its argument has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import index

from pvops.machine.reading import REGISTERS, bad, integer
from pvops.machine.state import State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_STRINGS = frozenset({"name", "vendor", "model_name", "cmdline", "hypervisor", "clocksource", "kernel", "dmesg"})
_NUMBERS = frozenset({"family", "model", "stepping", "siblings", "cores"})
_CPUS = frozenset({"online_cpus", "possible_cpus"})
_WORDS = frozenset({"flags", "bugs"})
_TEXTS = frozenset({"vulnerabilities", "parts", "told_by"})
#: What is never None: a description has a name, and a log that is not known is empty.
_ALWAYS = frozenset({"name", "dmesg"})


def checked(field: str, value: object, name: str) -> object:
    """The value of an argument as a `Machine` keeps it; ``given_hypervisor`` is called ``hypervisor`` here.

    Raises:
        TypeError: it is of another type than the argument.
        MachineError: it is a number that no CPU has.
    """
    if field in _TEXTS:
        return _texts(field, value)
    if field == "features":
        return _features(value)
    if field == "cpuid":
        return _leaves(value, name)
    if value is None and field not in _ALWAYS:
        return None
    if field in _STRINGS:
        return value if isinstance(value, str) else _wanted(field, "a str", value)
    if field in _NUMBERS:
        return integer(_index(field, value), name, field, 0, field)
    if field in _CPUS:
        return integer(_index(field, value), name, field, 0, field) or bad(name, field, 0, "a machine has a CPU")
    if field in _WORDS:
        return _words(field, value)
    return value if isinstance(value, State) else _wanted(field, "a pvops.machine.state.State", value)


def _wanted(field: str, what: str, value: object) -> NoReturn:
    raise TypeError(f"Machine({field}=…): {what} is wanted, not {type(value).__name__}")


def _index(field: str, value: object) -> int:
    if isinstance(value, bool):
        _wanted(field, "an int", value)
    try:
        return index(value)  # type: ignore[arg-type]  # that it is none is what is asked
    except TypeError:
        _wanted(field, "an int", value)


def _words(field: str, value: object) -> frozenset[str]:
    """Names, or, as in a file, the names in one string."""
    words = value.split() if isinstance(value, str) else value
    if isinstance(words, bytes | bytearray | Mapping) or not isinstance(words, Iterable):
        _wanted(field, "a collection of str", value)
    names = tuple(words)
    for word in names:
        if not isinstance(word, str):
            _wanted(field, "a collection of str", word)
    return frozenset(names)


def _mapping(field: str, what: str, value: object) -> Mapping[object, object]:
    if value is None:
        return {}
    return value if isinstance(value, Mapping) else _wanted(field, what, value)


def _texts(field: str, value: object) -> dict[str, str]:
    out: dict[str, str] = {}
    for key, text in _mapping(field, "a mapping of str to str", value).items():
        if not isinstance(key, str) or not isinstance(text, str):
            _wanted(field, "a mapping of str to str", text if isinstance(key, str) else key)
        out[key] = text
    return out


def _features(value: object) -> dict[str, bool]:
    """By the kernel's names, also as its source writes them: ``X86_FEATURE_RETPOLINE``, ``X86_BUG_ITS``."""
    out: dict[str, bool] = {}
    for key, there in _mapping("features", "a mapping of str to bool", value).items():
        if not isinstance(key, str) or not isinstance(there, bool):
            _wanted("features", "a mapping of str to bool", there if isinstance(key, str) else key)
        out[key.removeprefix("X86_FEATURE_").removeprefix("X86_")] = there
    return out


def _leaves(value: object, name: str) -> dict[tuple[int, int], dict[str, int]]:
    out: dict[tuple[int, int], dict[str, int]] = {}
    what = f"a mapping of (leaf, subleaf) to {{{', '.join(REGISTERS)}: int}}"
    for leaf, registers in _mapping("cpuid", what, value).items():
        if not isinstance(leaf, tuple) or len(leaf) != 2 or not isinstance(registers, Mapping):
            _wanted("cpuid", what, registers if isinstance(leaf, tuple) and len(leaf) == 2 else leaf)
        if not set(registers) <= set(REGISTERS):
            unknown = next(register for register in registers if register not in REGISTERS)
            raise TypeError(f"Machine(cpuid=…): {what} is wanted; there is no register {unknown!r}")
        main, sub = (integer(_index("cpuid", number), name, "cpuid", 0, "leaf") for number in leaf)
        held = {register: _index("cpuid", registers.get(register, 0)) for register in REGISTERS}
        out[main, sub] = {register: integer(value, name, "cpuid", 0, register) for register, value in held.items()}
    return out
