"""Tracepoints that ``trace_event=`` turns on, in an image made by hand."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import pytest

from image import small
from pvops.assembler.elf import ALLOC, WRITE, ElfSection
from pvops.decide.answers import Facts
from pvops.decide.trace_events import traced
from pvops.kernel import Kernel
from pvops.machine.machine import Machine

EVENTS, CALLS, CLASSES, POINTS, STRINGS = (small.TEXT + 0x80_0000 + n * 0x1000 for n in range(5))
REGISTERS, OTHER, OF_CALLS = small.TEXT + 0x100, small.TEXT + 0x200, small.TEXT + 0x500
ENTER = small.TEXT + 0x600
INITCALLS = {"trace_initcall_start_cb": small.TEXT + 0x700, "trace_initcall_finish_cb": small.TEXT + 0x800}
COMMANDS = {"probe_sched_wakeup": small.TEXT + 0x300, "probe_sched_switch": small.TEXT + 0x400}
#: System, tracepoint, the function that registers it.
TOLD = [
    ("sched", "sched_switch", REGISTERS),
    ("sched", "sched_wakeup", REGISTERS),
    ("sched", "sched_process_exit", REGISTERS),
    ("irq", "irq_handler_entry", REGISTERS),
    ("irq", "softirq_entry", REGISTERS),
    ("timer", "irq", REGISTERS),
    ("raw", "other", OTHER),
    ("raw_syscalls", "sys_enter", REGISTERS),
    ("initcall", "initcall_start", REGISTERS),
    ("initcall", "initcall_finish", REGISTERS),
    ("syscalls", "no tracepoint", OF_CALLS),
]


def key(index: int) -> int:
    return POINTS + 64 * index + 8


def probe(index: int) -> int:
    return small.TEXT + 0x1000 + 16 * index


def events(*, perf: bool, listed: bool = True, more: Mapping[str, int] = {}) -> Kernel:
    """An image with these events, and symbols of their list; with CONFIG_PERF_EVENTS a class has one more function."""
    strings, calls, classes, points = bytearray(), b"", b"", b""

    def string(text: str) -> int:
        strings.extend(text.encode() + b"\0")
        return STRINGS + len(strings) - len(text) - 1

    for index, (system, name, register) in enumerate(TOLD):
        calls += struct.pack("<4Q", 0, 0, CLASSES + 64 * index, POINTS + 64 * index).ljust(64, b"\0")
        functions = [probe(index), *([OTHER] if perf else []), register]
        classes += struct.pack(f"<{1 + len(functions)}Q", string(system), *functions).ljust(64, b"\0")
        points += struct.pack("<Q", string(name)).ljust(64, b"\0")
    # The last is a system call's: its name stands where others have a tracepoint.
    calls += struct.pack("<4Q", 0, 0, CLASSES + 64 * (len(TOLD) - 1), string("sys_enter_read")).ljust(64, b"\0")
    pointers = struct.pack(f"<{len(TOLD) + 1}Q", *(CALLS + 64 * n for n in range(len(TOLD) + 1)))
    parts = {EVENTS: pointers, CALLS: calls, CLASSES: classes, POINTS: points, STRINGS: bytes(strings + bytes(64))}
    data = b"".join(part.ljust(0x1000, b"\0") for part in parts.values())
    sections = [ElfSection(".data.of_events", EVENTS, data, ALLOC | WRITE)]
    ends = {"__start_ftrace_events": EVENTS, "__stop_ftrace_events": EVENTS + len(pointers)}
    symbols = {
        **(ends if listed else {}),
        "trace_event_reg": REGISTERS,
        "syscall_enter_register": OF_CALLS,
        "ftrace_syscall_enter": ENTER,
        **COMMANDS,
        **INITCALLS,
        **more,
    }
    return small.kernel(b"\xc3" * 0x2000, more=sections, symbols=symbols)


@pytest.mark.parametrize("perf", [True, False])
@pytest.mark.parametrize(
    ("cmdline", "on"),
    [
        ("quiet", []),
        ("trace_event=sched:sched_process_exit", [2]),
        ("trace_event=irq:*", [3, 4]),
        ("trace_event=irq", [3, 4, 5]),
        ("trace_event=:softirq_entry", [4]),
        ("trace_event=*:softirq_entry,sched_process_exit", [2, 4]),
        ("trace_event=sched:softirq_entry", []),
        ("trace_event=other", []),
    ],
)
def test_events_of_the_command_line_are_traced(cmdline: str, on: list[int], perf: bool) -> None:
    keys = [key(index) for index in range(len(TOLD))]
    found = traced(events(perf=perf), Facts(Machine(cmdline=cmdline), (6, 12), 64), keys)
    # Whoever traces anything traces what tells the names of tasks, too.
    both = [0, 1] if on else []
    assert set(found.keys) == {key(index) for index in (*on, *both)}
    named = {TOLD[index][1]: probe(index) for index in on}
    tasks = {"sched_switch": COMMANDS["probe_sched_switch"], "sched_wakeup": COMMANDS["probe_sched_wakeup"]}
    assert found.functions == named | (tasks if on else {})


def test_of_two_functions_the_one_is_called_that_calls_all() -> None:
    keys = [key(index) for index in range(len(TOLD))]
    found = traced(events(perf=True), Facts(Machine(cmdline="trace_event=sched:*"), (6, 12), 64), keys)
    assert found.functions == {"sched_switch": 0, "sched_wakeup": 0, "sched_process_exit": probe(2)}


@pytest.mark.parametrize(
    ("cmdline", "calls"),
    [
        ("syscalls:sys_enter_read", ENTER),
        ("syscalls", ENTER),
        ("sys_enter_read", ENTER),
        ("raw_syscalls:sys_enter", probe(7)),
        ("syscalls:sys_enter_read,raw_syscalls:*", 0),
        ("syscalls:sys_enter_write", None),
    ],
)
def test_events_of_system_calls_share_a_tracepoint(cmdline: str, calls: int | None) -> None:
    keys = [key(index) for index in range(len(TOLD))]
    found = traced(events(perf=True), Facts(Machine(cmdline=f"trace_event={cmdline}"), (6, 12), 64), keys)
    assert found.functions.get("sys_enter") == calls
    assert (key(7) in found.keys) == (calls is not None)
    assert ("sched_switch" in found.functions) == (calls is not None)


def test_an_image_that_does_not_list_its_events_has_none_traced() -> None:
    kernel = small.kernel(b"\xc3" * 64)
    assert not traced(kernel, Facts(Machine(cmdline="trace_event=sched"), (6, 12), 64), [key(0)]).keys


@pytest.mark.parametrize(
    ("cmdline", "version", "on"),
    [
        ("trace_event=irq:irq_handler_entry trace_event=timer:irq", (6, 12), [3, 5]),
        ("trace_event=irq:irq_handler_entry trace_event=timer:irq", (6, 4), [5]),
        ("trace_instance=foo^traceoff,irq:softirq_entry,timer:irq", (6, 12), [4, 5]),
        ("trace_instance=foo", (6, 12), []),
        ("trace_instance=foo,irq", (6, 1), []),
        ('trace_trigger="softirq_entry.stacktrace,sched_process_exit.traceoff if pid == 3"', (6, 12), [2, 4]),
        ("trace_trigger=irq.stacktrace", (6, 3), [5]),
        ("trace_trigger=irq", (6, 12), []),
        ("trace_trigger=softirq_entry.stacktrace", (6, 1), []),
    ],
)
def test_other_options_trace_events_too(cmdline: str, version: tuple[int, int], on: list[int]) -> None:
    keys = [key(index) for index in range(len(TOLD))]
    found = traced(events(perf=True), Facts(Machine(cmdline=cmdline), version, 64), keys)
    assert set(found.keys) == {key(index) for index in (*on, *([0, 1] if on else []))}


@pytest.mark.parametrize(
    ("cmdline", "start"),
    [
        ("initcall_debug", INITCALLS["trace_initcall_start_cb"]),
        ("initcall_debug=1", INITCALLS["trace_initcall_start_cb"]),
        ("initcall_debug=0", None),
        ("initcall_debug trace_event=initcall:initcall_start", 0),
    ],
)
def test_initcalls_that_are_told_of_are_traced(cmdline: str, start: int | None) -> None:
    keys = [key(index) for index in range(len(TOLD))]
    found = traced(events(perf=True), Facts(Machine(cmdline=cmdline), (6, 12), 64), keys)
    assert found.functions.get("initcall_start") == start
    assert (key(8) in found.keys, key(9) in found.keys) == (start is not None, start is not None)
    # They are no events: nothing names tasks for them.
    assert (key(0) in found.keys) == ("trace_event" in cmdline)


def test_events_that_no_symbol_lists_are_found_by_their_tracepoints() -> None:
    keys = [key(index) for index in range(len(TOLD))]
    facts = Facts(Machine(cmdline="trace_event=irq:*,timer:irq initcall_debug"), (6, 1), 64)
    found = traced(events(perf=True, listed=False), facts, keys)
    assert set(found.keys) == {key(index) for index in (0, 1, 3, 4, 5, 8, 9)}


def test_a_tracepoint_of_modules_alone_has_a_static_call_and_no_key() -> None:
    keys = [key(index) for index in range(len(TOLD)) if index != 5]
    facts = Facts(Machine(cmdline="trace_event=timer:irq"), (6, 12), 64)
    assert "irq" not in traced(events(perf=True), facts, keys).functions
    found = traced(events(perf=True, more={"__SCT__tp_func_irq": small.TEXT + 0x900}), facts, keys)
    assert found.functions["irq"] == probe(5)
    assert key(5) not in found.keys
