"""Which tracepoints a boot turns on: ``trace_event=`` (kernel/trace/trace_events.c: early_enable_events()),
``trace_instance=`` (6.4), ``trace_trigger=`` (6.3) and ``initcall_debug`` (init/main.c).

The image lists its events: ``__start_ftrace_events`` points to one ``struct trace_event_call {list_head list; class;
union {name; tp}; ...}`` each, a class is ``{system, probe, perf_probe, reg, ...}`` (``perf_probe`` with
CONFIG_PERF_EVENTS), and a ``struct tracepoint`` begins with its name, and then has its key.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Mapping

from pvops.decide.answers import Answer
from pvops.decide.key_conditions import Entry, KeyQuery, Rule, truth
from pvops.image.uses import string_at, tracepoint
from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.decide.answers import Facts
    from pvops.image.kernel_image import KernelImage

#: Bytes that are read for a name, less where it stands near a section's end.
_SIZES = (64, 16, 4)
#: No kernel has more events.
_MOST = 1 << 14
#: What an event turns on besides, so that the trace can name tasks (trace_sched_switch.c: tracing_sched_register()).
_COMMANDS = {
    "sched_switch": "probe_sched_switch",
    "sched_wakeup": "probe_sched_wakeup",
    "sched_wakeup_new": "probe_sched_wakeup",
}


#: Who registers an event of a system call: the tracepoint, and the function it calls (trace_syscalls.c).
_SYSTEM_CALLS = {
    "syscall_enter_register": ("sys_enter", "ftrace_syscall_enter"),
    "syscall_exit_register": ("sys_exit", "ftrace_syscall_exit"),
}
#: Tracepoint → what initcall_debug_enable() has it call; the last one since 7.0.
_INITCALLS = {
    "initcall_start": "trace_initcall_start_cb",
    "initcall_finish": "trace_initcall_finish_cb",
    "initcall_level": "trace_initcall_level_cb",
}
#: Where a second ``trace_event=`` adds to the first (setup_trace_event()), and does not take its place: so in 6.12.
_ADDS = (6, 12)


class Traced(NamedTuple):
    """What is traced.

    Attributes:
        keys: of the tracepoints that are on, and why each is.
        functions: tracepoint → the function that its static call goes to; 0 for the one it is built with.
    """

    keys: dict[int, str]
    functions: dict[str, int]


class _Event(NamedTuple):
    """An event: its names, its tracepoint, that one's key (0 where it is another event's) and what is called."""

    system: str
    name: str
    point: str
    key: int
    probe: int


def traced(kernel: KernelImage, facts: Facts, keys: Collection[int]) -> Traced:
    """The tracepoints that the command line asks for.

    Args:
        kernel: the kernel.
        facts: the machine.
        keys: all static keys.
    """
    asked, initcalls = _asked(facts), _initcalls(facts)
    if not asked and not initcalls:
        return Traced({}, {})
    events = list(_events(kernel, keys))
    places = {event.point: event.key for event in events if event.key}
    functions: dict[str, int] = {}
    why: dict[str, str] = {}

    def turn_on(point: str, function: int, source: str) -> None:
        # Of two functions the one that calls all is called.
        functions[point] = function if functions.get(point) in (None, function) else 0
        why.setdefault(point, source)

    for name, probe in _INITCALLS.items() if initcalls else ():
        function = kernel.address_of(probe)
        if name in places and function is not None:
            turn_on(name, function, f"{initcalls}: initcall_debug_enable()")
    any_event = ""
    for event in events:
        source = next((source for query, source in asked if _matches(query, event.system, event.name)), None)
        if source is not None and event.point in places:
            turn_on(event.point, event.probe, source)
            any_event = any_event or source
    for name, probe in _COMMANDS.items() if any_event else ():
        if name in places:
            turn_on(name, kernel.address_of(probe) or 0, any_event)
    return Traced({places[name]: why[name] for name in functions if places[name] in keys}, functions)


#: What a system or an event is called; a system; an event.
_Query = tuple[str | None, str | None, str | None]


def _initcalls(facts: Facts) -> str | None:
    """``initcall_debug``, where it is on."""
    if not facts.given("initcall_debug"):
        return None
    value = facts.option("initcall_debug")
    on = value is None or truth(value, facts.version)
    return f"initcall_debug{'' if value is None else f'={value}'} on the command line" if on else None


def _asked(facts: Facts) -> list[tuple[_Query, str]]:
    """What the command line asks to be traced, and by which option."""
    found = []
    values = facts.machine.values("trace_event")
    for value in values if facts.version >= _ADDS else values[-1:]:
        source = "trace_event= on the command line: early_enable_events()"
        found += [(_query(word), source) for word in value.split(",") if word]
    if facts.version >= (6, 4):  # c4846480831e: NAME^FLAG@ADDRESS,EVENT,EVENT
        for value in facts.machine.values("trace_instance"):
            source = "trace_instance= on the command line: enable_instances()"
            found += [(_query(word), source) for word in value.split(",")[1:] if word]
    if facts.version >= (6, 3):  # a01fdc897fa5: EVENT.TRIGGER,EVENT.TRIGGER
        for value in facts.machine.values("trace_trigger"):
            events = [word.partition(".") for word in value.split(",")]
            source = "trace_trigger= on the command line: trace_early_triggers()"
            found += [((None, None, name), source) for name, _, trigger in events if name and trigger]
    return found


def _query(word: str) -> _Query:
    """``ftrace_set_clr_event()``: what a system or an event is called; else the system; else the event."""
    system, colon, event = word.partition(":")
    if not colon:
        return word, None, None
    return None, system if system not in ("", "*") else None, event if event not in ("", "*") else None


def _matches(query: _Query, of_system: str, of_event: str) -> bool:
    either, system, name = query
    return either in (None, of_system, of_event) and system in (None, of_system) and name in (None, of_event)


def _besides(system: str, *events: str) -> Rule:
    """A key that some events turn on besides that of their tracepoint, by the function that registers them."""

    def rule(query: KeyQuery) -> Answer | None:
        for wanted, source in _asked(query.facts):
            if any(_matches(wanted, system, event) for event in events):
                return Answer(True, source)
        return None

    return rule


#: Key → rule.
RULES: Mapping[str, Entry] = {
    "trace_pagefault_key": Entry(
        _besides("exceptions", "page_fault_user", "page_fault_kernel"), "arch/x86/kernel: trace_pagefault_reg()"
    ),
    "trace_resched_ipi_key": Entry(
        _besides("irq_vectors", "reschedule_entry", "reschedule_exit"), "arch/x86/kernel: trace_resched_ipi_reg()"
    ),
    "i2c_trace_msg_key": Entry(
        _besides("i2c", "i2c_write", "i2c_read", "i2c_reply", "i2c_result"),
        "drivers/i2c/i2c-core-base.c: i2c_transfer_trace_reg()",
    ),
}


def _events(kernel: KernelImage, keys: Collection[int]) -> Iterator[_Event]:
    """The events that are tracepoints, by trace_event_reg(), and those of system calls, which share two of them; others
    have no function that a static call goes to."""
    word = kernel.word
    for call in _calls(kernel, keys):
        of_class, point = (kernel.read_word(call + n * word) or 0 for n in (2, 3)) if call else (0, 0)
        if not of_class or not point:
            continue
        key = point + word
        members = [kernel.read_word(of_class + n * word) or 0 for n in range(4)]
        registers = [kernel.symbol_at(member) for member in members[2:]]
        shared = next((_SYSTEM_CALLS[symbol] for symbol in registers if symbol in _SYSTEM_CALLS), None)
        system = string_at(kernel, members[0], *_SIZES).decode("ascii", "replace")
        if shared is not None:
            name = string_at(kernel, point, *_SIZES).decode("ascii", "replace")
            yield _Event(system, name, shared[0], 0, kernel.address_of(shared[1]) or 0)
        elif "trace_event_reg" in registers:
            name = string_at(kernel, kernel.read_word(point), *_SIZES).decode("ascii", "replace")
            # Modules alone may ask for the key; the static call is there all the same.
            if key not in keys and kernel.address_of(f"__SCT__tp_func_{name}") is None:
                continue
            yield _Event(system, name, name, key, members[1])


def _calls(kernel: KernelImage, keys: Collection[int]) -> Iterator[int]:
    """The ``struct trace_event_call`` of each event: those listed, or where no symbol names the list, what points to a
    tracepoint behind what may be a class."""
    at, end = kernel.address_of("__start_ftrace_events"), kernel.address_of("__stop_ftrace_events")
    word = kernel.word
    if at is not None and end is not None:
        for place in range(at, min(end, at + _MOST * word), word):
            if call := kernel.read_word(place):
                yield call
        return
    points = {key - word for key in keys if tracepoint(kernel, key)}
    form = "<Q" if word == 8 else "<I"
    for _, start, size, _ in kernel.image.sections():
        if not points or not any(start <= point < start + size for point in points):
            continue
        data = kernel.image.read(start, size - size % word) or b""
        for index, (value,) in enumerate(struct.iter_unpack(form, data)):
            if value in points:
                yield start + (index - 3) * word
