"""Which tracepoints a boot turns on: ``trace_event=`` (kernel/trace/trace_events.c: early_enable_events()).

The image lists its events: ``__start_ftrace_events`` points to one ``struct trace_event_call {list_head list; class;
union {name; tp}; ...}`` each, a class is ``{system, probe, perf_probe, reg, ...}`` (``perf_probe`` with
CONFIG_PERF_EVENTS), and a ``struct tracepoint`` begins with its name, and then has its key.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from pvops.image.uses import string_at
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


class Traced(NamedTuple):
    """What is traced.

    Attributes:
        keys: of the tracepoints that are on.
        functions: tracepoint → the function that its static call goes to; 0 for the one it is built with.
    """

    keys: frozenset[int]
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
    asked = facts.option("trace_event")
    if not asked:
        return Traced(frozenset(), {})
    queries = [_query(word) for word in asked.split(",") if word]
    events = list(_events(kernel, keys))
    on = [event for event in events if any(_matches(query, event) for query in queries)]
    places = {event.point: event.key for event in events if event.key}
    functions: dict[str, int] = {}
    for event in on:
        if event.point in places:
            # Of two functions the one that calls all is called.
            functions[event.point] = event.probe if functions.get(event.point) in (None, event.probe) else 0
    for name, probe in _COMMANDS.items() if on else ():
        if name in places:
            functions[name] = 0 if name in functions else kernel.address_of(probe) or 0
    return Traced(frozenset(places[name] for name in functions), functions)


def _query(word: str) -> tuple[str | None, str | None, str | None]:
    """``ftrace_set_clr_event()``: what a system or an event is called; else the system; else the event."""
    system, colon, event = word.partition(":")
    if not colon:
        return word, None, None
    return None, system if system not in ("", "*") else None, event if event not in ("", "*") else None


def _matches(query: tuple[str | None, str | None, str | None], event: _Event) -> bool:
    either, system, name = query
    return either in (None, event.system, event.name) and system in (None, event.system) and name in (None, event.name)


def _events(kernel: KernelImage, keys: Collection[int]) -> Iterator[_Event]:
    """The events that are tracepoints, by trace_event_reg(), and those of system calls, which share two of them; others
    have no function that a static call goes to."""
    at, end = kernel.address_of("__start_ftrace_events"), kernel.address_of("__stop_ftrace_events")
    if at is None or end is None:
        return
    word = kernel.word
    for place in range(at, min(end, at + _MOST * word), word):
        call = kernel.read_word(place)
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
        elif key in keys and "trace_event_reg" in registers:
            name = string_at(kernel, kernel.read_word(point), *_SIZES).decode("ascii", "replace")
            yield _Event(system, name, name, key, members[1])
