"""Static keys that files below /proc/sys turn, which ``sysctl.NAME=VALUE`` on the command line writes before init runs.

Sources: fs/proc/proc_sysctl.c process_sysctl_arg(), 5.8 and later (3db978d480e2), and the handlers named, of 5.10, 6.1,
6.12 and 7.2.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from pvops.decide.answers import Answer, Facts
from pvops.decide.key_conditions import Entry, KeyQuery

#: A number as proc_get_long() of kernel/sysctl.c takes it.
_NUMBER = re.compile(r"\s*(-?)(?:0[xX]([0-9a-fA-F]+)|([0-9]+))\s*")
#: INT_MAX, and what rps_sock_flow_sysctl() refuses.
_INT, _FLOWS = 0x7FFF_FFFF, 1 << 29
#: SCHED_CAPACITY_SCALE, which the limits of util clamps are built with.
_SCALE = 1024


def written(facts: Facts, name: str, most: int = 1) -> tuple[int, str] | None:
    """The last value from 0 to ``most`` that is written to a file, and what says so; None where none is."""
    if facts.version < (5, 8):
        return None
    wanted = f"sysctl/{name}".replace(".", "/")
    for given, value in reversed(facts.machine.options):
        if given.replace(".", "/") != wanted or value is None:
            continue
        read = _number(value)
        if read is not None and 0 <= read <= most:
            return read, f"{given}={value} on the command line"
    return None


def _number(text: str) -> int | None:
    found = _NUMBER.fullmatch(text)
    if found is None:
        return None
    sign, hexadecimal, digits = found.groups()
    octal = digits is not None and digits.startswith("0")
    try:
        read = int(hexadecimal, 16) if hexadecimal else int(digits, 8 if octal else 10)
    except ValueError:
        return None
    return -read if sign else read


def switch(facts: Facts, name: str, most: int = 1) -> Answer | None:
    """A file that is a key's state: anything but 0 is on."""
    found = written(facts, name, most)
    return None if found is None else Answer(found[0] != 0, found[1])


def _file(name: str, restates: str, most: int = 1) -> Entry:
    return Entry(lambda query: switch(query.facts, name, most), restates)


def _defers(query: KeyQuery) -> Answer | None:
    """proc_do_skb_defer_max(): 0 turns on the key that says so."""
    found = written(query.facts, "net.core.skb_defer_max", _INT)
    return None if found is None else Answer(found[0] == 0, found[1])


def _erases_not(query: KeyQuery) -> Answer | None:
    """stack_erasing_sysctl(): 0 turns on the key that passes it over."""
    found = switch(query.facts, "kernel.stack_erasing")
    return None if found is None else Answer(not found.value, found.source)


def _clamps(query: KeyQuery) -> Answer | None:
    """sysctl_sched_uclamp_handler(): another limit than the one that is there."""
    for name in ("min", "max", "min_rt_default"):
        found = written(query.facts, f"kernel.sched_util_clamp_{name}", _SCALE)
        if found is not None and found[0] != _SCALE:
            return Answer(True, found[1])
    return None


def unless(name: str, otherwise: Callable[[KeyQuery], Answer | None]) -> Callable[[KeyQuery], Answer | None]:
    """What a file turns off that is on by another rule."""

    def rule(query: KeyQuery) -> Answer | None:
        told = switch(query.facts, name)
        return told if told is not None and not told.value else otherwise(query)

    return rule


_FLOW = "net/core/sysctl_net_core.c: rps_sock_flow_sysctl()"

#: Key → rule.
RULES: Mapping[str, Entry] = {
    "vm_numa_stat_key": _file("vm.numa_stat", "mm/vmstat.c: sysctl_vm_numa_stat_handler()"),
    "bpf_stats_enabled_key": _file("kernel.bpf_stats_enabled", "kernel/bpf/syscall.c: bpf_stats_handler()"),
    "net_high_order_alloc_disable_key": _file(
        "net.core.high_order_alloc_disable", "kernel/sysctl.c: proc_do_static_key()"
    ),
    "rps_needed": _file("net.core.rps_sock_flow_entries", _FLOW, _FLOWS),
    "rfs_needed": _file("net.core.rps_sock_flow_entries", _FLOW, _FLOWS),
    "skb_defer_disable_key": Entry(_defers, "net/core/sysctl_net_core.c: proc_do_skb_defer_max()"),
    "stack_erasing_bypass": Entry(_erases_not, "kernel/kstack_erase.c: stack_erasing_sysctl()"),
    "sched_uclamp_used": Entry(_clamps, "kernel/sched/core.c: sysctl_sched_uclamp_handler()"),
}
