"""Which hooks of Linux security modules are called: 6.12 made each a static call behind a static key of its own.

``static_calls_table`` holds, for every hook, a row of ``struct lsm_static_call {key, trampoline, hl, active}``; the
modules' ``struct security_hook_list {scalls, hook, lsmid}`` name the hook's first row and the function. Modules are
initialised in order, and each of their hooks takes the next free row (security/security.c lsm_static_call_init()).
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from pvops.decide.answers import Facts
from pvops.tuples import NamedTuple

if TYPE_CHECKING:
    from pvops.image.kernel_image import KernelImage

_ROW = 4
_LIST = 3
# Rows for more hooks and modules than any kernel has: 512 hooks, 16 modules.
_LARGEST = 512 * 16 * _ROW * 8
_FIRST = ("lockdown", "capability")
_LAST = ("ima", "evm")
_EXCLUSIVE = ("apparmor", "selinux", "smack")
_SAID = "LSM: initializing lsm="


class Hooks(NamedTuple):
    """What the security modules of a boot put in place.

    Attributes:
        calls: static call key → the hook's function.
        keys: the ``security_hook_active_*`` keys that are on.
        source: where the modules and their order are known from.
    """

    calls: dict[int, int]
    keys: frozenset[int]
    source: str


def order(kernel: KernelImage, facts: Facts, built: frozenset[str]) -> tuple[list[str], str]:
    """The modules in the order in which they are initialised.

    From the log where it says so, else as ordered_lsm_parse() does: lockdown early, capability, the list of ``lsm=`` or
    CONFIG_LSM with the first exclusive module only, then those that want to be last.
    """
    line = facts.machine.logged(_SAID)
    if line:
        return line[len(_SAID) :].strip().split(","), f'log: "{line.strip()}"'
    given, source = facts.option("lsm"), "lsm= on the command line"
    if given is None:
        given, source = _builtin(kernel), "CONFIG_LSM"
    chosen: list[str] = [name for name in _FIRST if name in built]
    exclusive = next((n for n in given.split(",") if n in _EXCLUSIVE and n in built and facts.option(n) != "0"), None)
    legacy = facts.option("security")
    if facts.option("lsm") is None and legacy in _EXCLUSIVE:
        exclusive = legacy
    for name in given.split(","):
        if name in built and name not in chosen and name not in _LAST and (name not in _EXCLUSIVE or name == exclusive):
            chosen.append(name)
    return chosen + [name for name in _LAST if name in built], source


def _builtin(kernel: KernelImage) -> str:
    """CONFIG_LSM, which a pointer in the image's initial data leads to."""
    for symbol in ("builtin_lsm_order", "lsm_order_builtin"):
        address = kernel.address_of(symbol)
        text = kernel.read_word(address) if address is not None else None
        raw = kernel.image.read(text, 256) if text else None
        if raw and b"\0" in raw:
            return raw[: raw.index(b"\0")].decode("ascii", "replace")
    return "landlock,lockdown,yama,loadpin,safesetid,integrity,apparmor,selinux,smack,tomoyo,bpf,ipe"


def hooks(kernel: KernelImage, facts: Facts) -> Hooks | None:
    """What the modules put in place, found once for a boot's facts; None on kernels that call their hooks otherwise."""
    if facts not in _HOOKED:
        _HOOKED[facts] = _hooks(kernel, facts)
    return _HOOKED[facts]


_HOOKED: weakref.WeakKeyDictionary[Facts, Hooks | None] = weakref.WeakKeyDictionary()


def _hooks(kernel: KernelImage, facts: Facts) -> Hooks | None:
    table = kernel.address_of("static_calls_table")
    if table is None or kernel.bits != 64:
        return None
    lists = _lists(kernel, table)
    modules, source = order(kernel, facts, frozenset(lists))
    calls: dict[int, int] = {}
    keys = set()
    used: dict[int, int] = {}
    for module in modules:
        for first, function in lists.get(module, ()):
            row = first + used.get(first, 0) * _ROW * 8
            used[first] = used.get(first, 0) + 1
            key, active = kernel.read_word(row), kernel.read_word(row + 3 * 8)
            if key and active:
                calls[key] = function
                keys.add(active)
    return Hooks(calls, frozenset(keys), source)


def _lists(kernel: KernelImage, table: int) -> dict[str, list[tuple[int, int]]]:
    """Module → (the hook's first row, function), by what a list holds: a pointer into the table, then code."""
    if kernel not in _FOUND:
        _FOUND[kernel] = _find(kernel, table)
    return _FOUND[kernel]


_FOUND: weakref.WeakKeyDictionary[KernelImage, dict[str, list[tuple[int, int]]]] = weakref.WeakKeyDictionary()


def _find(kernel: KernelImage, table: int) -> dict[str, list[tuple[int, int]]]:
    low, high = next(((a, a + s) for n, a, s, _ in kernel.image.sections() if n == ".text"), (0, 0))
    found: dict[str, list[tuple[int, int]]] = {}
    for section in (".rodata", ".data"):
        for at, row in kernel.image.pointers(section, table, table + _LARGEST):
            if (row - table) % (_ROW * 8) == 0 and low <= (kernel.read_word(at + 8) or 0) < high:
                symbol = kernel.image.symbol_at(at)
                if symbol and "_hooks" in symbol[0] and symbol[1] % (_LIST * 8) == 0:
                    found.setdefault(_module(symbol[0]), []).append((row, kernel.read_word(at + 8) or 0))
    return found


def _module(symbol: str) -> str:
    """``apparmor`` of ``apparmor_hooks``, ``bpf`` of ``bpf_lsm_hooks``, ``ima`` of ``ima_appraise_hooks``."""
    name = symbol.partition("_hooks")[0]
    return name.removesuffix("_lsm").removesuffix("_security").removesuffix("_appraise")
