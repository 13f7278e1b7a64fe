"""How code sets static calls: what it hands to ``__static_call_update(key, trampoline, function)``.

An image that names no data does not say which static call is which. The code that sets one at boot does: by the address
of a function, or by the member of a structure that a variable points to.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from weakref import WeakKeyDictionary

from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.image.view import KernelView

#: Instructions that load the three arguments stand together, and are no longer than this before and behind the key's.
_BEFORE, _BEHIND = 28, 32
#: Bytes of a trampoline; and the updates that turn preemption on.
_TRAMPOLINE, _PREEMPTION = 8, 5
#: A function's address may be chosen by branches before them.
_CHOSEN = 96


class Update(NamedTuple):
    """One call of ``__static_call_update()``.

    Attributes:
        key: address of the static call's key; None where the update is compiled into its caller, which writes the key
            itself and hands on the trampoline alone (i386).
        trampoline: address of its trampoline.
        variable: address of the pointer to the structure whose member the function is, where the load of it stands
            here; None otherwise.
        member: offset of that member in bytes; None where the function is no member.
        functions: the functions that are loaded as constants, nearest first; more than one where branches choose.
    """

    key: int | None
    trampoline: int
    variable: int | None
    member: int | None
    functions: tuple[int, ...]


class _Load(NamedTuple):
    """An instruction that loads a register: from where it stands, how long it is, what it loads."""

    at: int
    size: int
    register: int
    constant: int | None = None
    variable: int | None = None
    member: int | None = None
    copied: int | None = None


#: What else stands among them on i386: ``xor %eax,%eax`` and ``push $0``, two arguments, and the store to the key.
_OTHERS = {b"\x31\xc0": 2, b"\x6a\x00": 2, b"\xc7\x05": 10}
_NONE = -1
#: Registers of the first three arguments, by their numbers in an instruction.
_ARGUMENTS = {64: (7, 6, 2), 32: (0, 2, 1)}


def updates(kernel: KernelView) -> Sequence[Update]:
    """Every update of a static call in the code that runs at boot.

    Raises:
        TableError: a table of the image is malformed.
    """
    if kernel not in _FOUND:
        _FOUND[kernel] = tuple(_found(kernel))
    return _FOUND[kernel]


_FOUND: WeakKeyDictionary[KernelView, tuple[Update, ...]] = WeakKeyDictionary()


def preemption(kernel: KernelView, built: Callable[[int], int | None]) -> tuple[Update, ...]:
    """The five updates that ``__sched_dynamic_update()`` of kernel/sched/core.c begins with (5.12 and later).

    They turn on cond_resched, might_resched, preempt_schedule, preempt_schedule_notrace and irqentry_exit_cond_resched,
    in this order. The first two go to one function, and are built with one that returns 0. Where live patches may have
    taken cond_resched (e3ff7c609f39, 6.3 to 6.12), it stands apart behind a condition.

    Args:
        kernel: the kernel.
        built: the function that the static call of a trampoline is built with; None where there is none.

    Returns:
        the five, or nothing where no code does that.
    """
    text = next(((low, size) for name, low, size, _ in kernel.image.sections() if name == ".text"), None)
    if text is None:
        return ()
    code = kernel.image.read(*text) or b""
    for first in sorted(address for _, address, *_ in kernel.tables.rows("trampolines")):
        if not built(first) or built(first + _TRAMPOLINE) != built(first):
            continue
        alone = [found for at in _loads_of(kernel, code, first) for found in _in_a_row(kernel, code, text[0], at, 1)]
        for at in _loads_of(kernel, code, first + _TRAMPOLINE) if alone else ():
            others = tuple(_in_a_row(kernel, code, text[0], at, _PREEMPTION - 1))
            for found in alone:
                if len(others) == _PREEMPTION - 1 and found.functions == others[0].functions:
                    return (found, *others)
    return ()


def _loads_of(kernel: KernelView, code: bytes, trampoline: int) -> Iterator[int]:
    """Where code loads a trampoline's address as an argument."""
    load = _load_of_trampoline(kernel.bits) + (trampoline & 0xFFFF_FFFF).to_bytes(4, "little")
    at = code.find(load)
    while at >= 0:
        yield at
        at = code.find(load, at + 1)


def _in_a_row(kernel: KernelView, code: bytes, start: int, at: int, count: int) -> Iterator[Update]:
    """So many updates whose three arguments are constants, one behind the other, from the one that a place is in."""
    for _ in range(count):
        loads = _around(kernel, code, start, at)
        held = {load.register: load.constant for load in loads}
        key, trampoline, function = (held.get(register) for register in _ARGUMENTS[kernel.bits])
        if trampoline is None or not function:
            return
        yield Update(key, trampoline, None, None, (function,))
        at = code.find(_load_of_trampoline(kernel.bits), max(load.at + load.size for load in loads))


def _load_of_trampoline(bits: int) -> bytes:
    register = _ARGUMENTS[bits][1]
    return b"H\xc7" + bytes((0xC0 + register,)) if bits == 64 else bytes((0xB8 + register,))


def _found(kernel: KernelView) -> Iterator[Update]:
    trampolines = frozenset(address for _, address, *_ in kernel.tables.rows("trampolines"))
    key, trampoline, _ = _ARGUMENTS[kernel.bits]
    opcode = _load_of_trampoline(kernel.bits)
    for name, start, size, executable in kernel.image.sections():
        if not executable or not name.startswith(".init"):
            continue
        code = kernel.image.read(start, size) or b""
        for match in re.finditer(re.escape(opcode) + b"(?=(....))", code, re.DOTALL):
            if _address(match[1], kernel.bits) not in trampolines:
                continue
            loads = _around(kernel, code, start, match.start())
            held = {load.register: load for load in loads}
            of_key, of_trampoline = held.get(key), held.get(trampoline)
            if of_trampoline is not None and of_trampoline.constant:
                ids = (of_key.constant or None if of_key is not None else None, of_trampoline.constant)
                if ids[0] is not None or kernel.bits == 32:
                    yield _update(kernel, code, match.start(), loads, ids)


def _update(kernel: KernelView, code: bytes, at: int, loads: list[_Load], ids: tuple[int | None, int]) -> Update:
    _, _, function = _ARGUMENTS[kernel.bits]
    last = next((load for load in reversed(loads) if load.register == function), None)
    variable = next((load.variable for load in loads if load.variable is not None), None)
    if last is not None and last.member is not None:
        return Update(*ids, variable, last.member, ())
    opcode = b"H\xc7\xc2" if kernel.bits == 64 else b"\xb9"
    if last is not None and last.copied is not None:  # clang chooses it in another register
        opcode = bytes((0x48 | last.copied >> 3, 0xC7, 0xC0 | last.copied & 7))
    low = max(0, at - _CHOSEN)
    found = re.finditer(re.escape(opcode) + b"(?=(....))", code[low : at + _BEHIND], re.DOTALL)
    places = [_address(match[1], kernel.bits) for match in found]
    functions = [last.constant] if last is not None and last.constant else []
    functions += [place for place in reversed(places) if place not in functions and _is_code(kernel, place)]
    return Update(*ids, None, None, tuple(functions))


def _around(kernel: KernelView, code: bytes, start: int, at: int) -> list[_Load]:
    """The longest row of loads that has one at a place, up to a call or a jump behind it."""
    for begin in range(max(0, at - _BEFORE), at + 1):
        loads = []
        here = begin
        while here < at + _BEHIND and (load := _load(code, start, here, kernel.bits)) is not None:
            loads.append(load)
            here += load.size
        while code[here : here + 1] and 0x58 <= code[here] < 0x60:  # pop: the update is the last that a function does
            here += 1
        if any(load.at == at for load in loads) and code[here : here + 1] in (b"\xe8", b"\xe9"):
            return loads
    return []


def _load(code: bytes, start: int, at: int, bits: int) -> _Load | None:
    wide = 1 if bits == 64 else 0
    if wide and code[at : at + 2] in (b"H\x89", b"L\x89") and code[at + 2 : at + 3] >= b"\xc0":
        mode = code[at + 2]
        return _Load(at, 3, mode & 7, copied=mode >> 3 & 7 | (code[at] & 4) << 1)
    if wide and code[at : at + 1] != b"H":
        return None
    here = code[at + wide : at + wide + 7]
    if len(here) < 7:
        return None
    if not wide and 0xB8 <= here[0] < 0xC0:
        return _Load(at, 5, here[0] - 0xB8, constant=_address(here[1:5], bits))
    if not wide and here[:2] in _OTHERS:
        return _Load(at, _OTHERS[here[:2]], _NONE)
    if not wide and here[0] == 0xA1:
        return _Load(at, 5, 0, variable=_address(here[1:5], bits))
    if wide and here[0] == 0xC7 and 0xC0 <= here[1] < 0xC8:
        return _Load(at, 7, here[1] - 0xC0, constant=_address(here[2:6], bits))
    if here[0] != 0x8B:
        return None
    mode, register, base = here[1] >> 6, here[1] >> 3 & 7, here[1] & 7
    if mode == 0 and base == 5:
        size = wide + 6
        place = int.from_bytes(here[2:6], "little", signed=True)
        return _Load(at, size, register, variable=(place + (start + at + size if wide else 0)) & (1 << bits) - 1)
    if mode == 3 or base == 4:
        return None
    size = wide + (2, 3, 6)[mode]
    return _Load(at, size, register, member=int.from_bytes(here[2 : size - wide], "little"))


def _address(raw: bytes, bits: int) -> int:
    """A constant of 32 bits, extended by its sign."""
    return int.from_bytes(raw, "little", signed=True) & (1 << bits) - 1


def _is_code(kernel: KernelView, address: int) -> bool:
    return any(executable and low <= address < low + size for _, low, size, executable in kernel.image.sections())
