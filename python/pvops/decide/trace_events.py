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


class Traced(NamedTuple):
    """What is traced.

    Attributes:
        keys: of the tracepoints that are on.
        functions: tracepoint → the function that its static call goes to; 0 for the one it is built with.
    """

    keys: frozenset[int]
    functions: dict[str, int]


class _Event(NamedTuple):
    system: str
    name: str
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
    places = {event.name: event.key for event in events}
    functions = {event.name: event.probe for event in on}
    for name, probe in _COMMANDS.items() if on else ():
        if name in places:
            # Of two functions the one that calls all is called.
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
    """The events that are tracepoints, by trace_event_reg(); others have no function that a static call goes to."""
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
        registers = any(kernel.symbol_at(member) == "trace_event_reg" for member in members[2:])
        if key in keys and registers:
            system, name = (string_at(kernel, text, *_SIZES) for text in (members[0], kernel.read_word(point)))
            yield _Event(system.decode("ascii", "replace"), name.decode("ascii", "replace"), key, members[1])
