"""Which hooks of Linux security modules are called: 6.12 made each a static call behind a static key of its own.

``static_calls_table`` holds, for every hook, a row of ``struct lsm_static_call {key, trampoline, hl, active}``; the
modules' ``struct security_hook_list {scalls, hook, lsmid}`` name the hook's first row and the function. Modules are
initialised in order, and each of their hooks takes the next free row (security/security.c lsm_static_call_init()).

An image that names no data has the table where rows of it follow each other, and the code of a module says which lists
are the module's: ``security_add_hooks(hooks, count, &lsmid)``.
"""

from __future__ import annotations

import re
import struct
import weakref
from collections.abc import Callable, Iterator, Mapping

from pvops.decide.answers import Facts
from pvops.image.uses import string_at
from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.image.kernel_image import KernelImage

_ROW = 4
_LIST = 3
#: So much is read of a table at a time, in bytes: rows as a whole.
_PIECE = 1 << 12
_FIRST = ("lockdown", "capability")
_LAST = ("ima", "evm")
_EXCLUSIVE = ("apparmor", "selinux", "smack")
#: LSM_FLAG_LEGACY_MAJOR: ``security=`` turns off all of them but the one it names.
_MAJOR = (*_EXCLUSIVE, "tomoyo")
_SAID = "LSM: initializing lsm="


class Hooks(NamedTuple):
    """What the security modules of a boot put in place.

    Attributes:
        calls: static call key, and trampoline → the hook's function.
        keys: the ``security_hook_active_*`` keys that are on.
        all_keys: all of them.
        source: where the modules and their order are known from.
        modules: their names, as ``lsm=`` has them.
    """

    calls: dict[int, int]
    keys: frozenset[int]
    all_keys: frozenset[int]
    source: str
    modules: tuple[str, ...]


def order(kernel: KernelImage, facts: Facts, built: frozenset[str]) -> tuple[list[str], str]:
    """The modules in the order in which they are initialised.

    From the log where it says so, else as ordered_lsm_parse() does: lockdown early, capability, the list of ``lsm=`` or
    CONFIG_LSM with the first exclusive module only, then those that want to be last. Of the old major modules
    ``security=`` leaves one.
    """
    line = facts.machine.logged(_SAID)
    if line:
        return line[len(_SAID) :].strip().split(","), f'log: "{line.strip()}"'
    given, source = facts.option("lsm"), "lsm= on the command line"
    legacy = facts.option("security") if given is None else None
    if given is None:
        given, source = _builtin(kernel), "CONFIG_LSM" if legacy is None else f"CONFIG_LSM and security={legacy}"
    wanted = [name for name in given.split(",") if legacy is None or name not in _MAJOR or name == legacy]
    if legacy in _MAJOR and legacy not in wanted:
        wanted.append(legacy)
    chosen: list[str] = [name for name in _FIRST if name in built]
    exclusive = next((n for n in wanted if n in _EXCLUSIVE and n in built and facts.option(n) != "0"), None)
    for name in wanted:
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
    named = kernel.address_of("static_calls_table") is not None
    # 417c5643cd67 (6.12) made the table.
    table = _table(kernel) if kernel.bits == 64 and (named or facts.version >= (6, 12)) else None
    if table is None:
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
            key, trampoline, active = (kernel.read_word(row + at * 8) for at in (0, 1, 3))
            if key and trampoline and active:
                calls[key] = calls[trampoline] = function
                keys.add(active)
    return Hooks(calls, frozenset(keys), table.active, source, tuple(modules))


class _Table(NamedTuple):
    """``static_calls_table``: its first row, the end of its last, and the keys that say which hooks are called."""

    start: int
    end: int
    active: frozenset[int]


def _table(kernel: KernelImage) -> _Table | None:
    """By its name, or the longest run of rows that hold a static call's key, its trampoline and a static key."""
    if kernel not in _TABLES:
        _TABLES[kernel] = _find_table(kernel)
    return _TABLES[kernel]


_TABLES: weakref.WeakKeyDictionary[KernelImage, _Table | None] = weakref.WeakKeyDictionary()


def _find_table(kernel: KernelImage) -> _Table | None:
    trampolines = frozenset(address for _, address, *_ in kernel.tables.rows("trampolines"))
    known = kernel.address_of("static_calls_table")
    if known is not None:
        return _rows(kernel, known, lambda _, trampoline: trampoline in trampolines)
    keys = [address for address, *_ in kernel.tables.static_keys()]
    calls = [key for key, *_ in kernel.tables.call_keys() if key not in trampolines]
    if not calls or not keys:
        return None
    low, high = min(keys), max(keys)
    # A hook that nothing calls has no sites, and its keys are in no table.
    rows = {
        at
        for section in (".rodata", ".data")
        for at, _ in kernel.image.pointers(section, min(calls), max(calls) + 1)
        if kernel.read_word(at + 8) in trampolines and low <= (kernel.read_word(at + 3 * 8) or 0) <= high
    }
    runs = [_rows(kernel, row, lambda row, _: row in rows) for row in rows if row - _ROW * 8 not in rows]
    return max((run for run in runs if run is not None), key=lambda run: run.end - run.start, default=None)


def _rows(kernel: KernelImage, start: int, is_row: Callable[[int, int], bool]) -> _Table | None:
    """The rows from an address on; of each it is asked whether it is one, by its address and its trampoline."""
    end, active = start, set()
    for _, trampoline, _, key in _words(kernel, start):
        if not is_row(end, trampoline):
            break
        active.add(key)
        end += _ROW * 8
    return _Table(start, end, frozenset(active)) if active else None


def _words(kernel: KernelImage, start: int) -> Iterator[tuple[int, ...]]:
    """The words of rows from an address to the end of its section."""
    last = next((a + s for _, a, s, _ in kernel.image.sections() if a <= start < a + s), start)
    last -= (last - start) % (_ROW * 8)
    for first in range(start, last, _PIECE):
        yield from struct.iter_unpack(f"<{_ROW}Q", kernel.image.read(first, min(_PIECE, last - first)) or b"")


def _lists(kernel: KernelImage, table: _Table) -> dict[str, list[tuple[int, int]]]:
    """Module → (the hook's first row, function), by what a list holds: a pointer into the table, then code."""
    if kernel not in _FOUND:
        _FOUND[kernel] = _find(kernel, table)
    return _FOUND[kernel]


_FOUND: weakref.WeakKeyDictionary[KernelImage, dict[str, list[tuple[int, int]]]] = weakref.WeakKeyDictionary()


def _find(kernel: KernelImage, table: _Table) -> dict[str, list[tuple[int, int]]]:
    low, high = next(((a, a + s) for n, a, s, _ in kernel.image.sections() if n == ".text"), (0, 0))
    entries: dict[int, tuple[int, int]] = {}
    for section in (".rodata", ".data"):
        for at, row in kernel.image.pointers(section, table.start, table.end):
            function = kernel.read_word(at + 8) or 0
            if (row - table.start) % (_ROW * 8) == 0 and low <= function < high:
                entries[at] = (row, function)
    found: dict[str, list[tuple[int, int]]] = {}
    for at, entry in entries.items():
        symbol = kernel.image.symbol_at(at)
        if symbol and "_hooks" in symbol[0] and symbol[1] % (_LIST * 8) == 0:
            found.setdefault(_module(symbol[0]), []).append(entry)
    for module, at, count in () if found else _registered(kernel, entries):
        places = [at + index * _LIST * 8 for index in range(count)]
        found.setdefault(module, []).extend(entries[place] for place in places if place in entries)
    return found


#: ``mov $HOOKS, %rdi``, and near it ``mov $COUNT, %esi`` and ``mov $LSMID, %rdx``, or ``mov %rdi, %rdx`` where a caller
#: handed the module on.
_LOAD_HOOKS, _LOAD_COUNT, _LOAD_MODULE = b"\x48\xc7\xc7", rb"\xbe(..\0\0)", rb"\x48\xc7\xc2(....)"
_HANDED_ON = b"\x48\x89\xfa"
#: How far from the load of the list the others stand, in bytes; how far behind its function's start it does.
_NEAR, _HEAD = 24, 48


def _registered(kernel: KernelImage, entries: Mapping[int, object]) -> Iterator[tuple[str, int, int]]:
    """(module, address of a list, how many hooks it has) of each ``security_add_hooks()`` in code that runs at boot."""
    for section, start, size, executable in kernel.image.sections():
        if not executable or not section.startswith(".init"):
            continue
        code = kernel.image.read(start, size) or b""
        for match in re.finditer(re.escape(_LOAD_HOOKS) + b"(....)", code, re.DOTALL):
            hooks = _address(match[1])
            if hooks not in entries:
                continue
            around = code[max(0, match.start() - _NEAR) : match.end() + _NEAR]
            count = re.search(_LOAD_COUNT, around, re.DOTALL)
            loaded = re.search(_LOAD_MODULE, around, re.DOTALL)
            if loaded is not None:
                identity = _address(loaded[1])
            elif _HANDED_ON in around:
                identity = _handed_on(code, match.start())
            else:
                continue
            module = _name(kernel, identity)
            if module is not None and count is not None:
                yield module, hooks, int.from_bytes(count[1], "little")


def _handed_on(code: bytes, at: int) -> int:
    """What a caller loads as first argument before it calls the function that has this place; 0 where none does."""
    for match in re.finditer(re.escape(_LOAD_HOOKS) + rb"(....)\xe8(....)", code, re.DOTALL):
        target = match.end() + int.from_bytes(match[2], "little", signed=True)
        if at - _HEAD <= target <= at:
            return _address(match[1])
    return 0


def _name(kernel: KernelImage, identity: int) -> str | None:
    """The name in a ``struct lsm_id {name, id}``; None where there is none."""
    name = string_at(kernel, kernel.read_word(identity), 16)
    return name.decode() if re.fullmatch(rb"[a-z0-9_]+", name) else None


def _address(raw: bytes) -> int:
    """A constant of 32 bits, extended by its sign."""
    return int.from_bytes(raw, "little", signed=True) & (1 << 64) - 1


def _module(symbol: str) -> str:
    """``apparmor`` of ``apparmor_hooks``, ``bpf`` of ``bpf_lsm_hooks``, ``ima`` of ``ima_appraise_hooks``."""
    name = symbol.partition("_hooks")[0]
    return name.removesuffix("_lsm").removesuffix("_security").removesuffix("_appraise")
