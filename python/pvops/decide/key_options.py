"""Static keys that options on the command line turn on or off: one rule a key.

Sources: the functions named, of 5.10, 6.1, 6.12 and 7.2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pvops.decide.answers import Answer, Facts
from pvops.decide.key_conditions import Entry, KeyQuery, Rule, switched, told


def _poisons(facts: Facts) -> tuple[bool, str]:
    """Whether pages are poisoned."""
    on, source = told(facts, "page_poison")
    return bool(on), source


def _heap(kind: str) -> Rule:
    """``init_on_alloc=``, ``init_on_free=``; poisoned pages need neither (init_mem_debugging_and_hardening()).

    Before 8db26a3d4735 (5.11) poisoning did not turn the key off, though the log says so.
    """

    def rule(query: KeyQuery) -> Answer | None:
        facts = query.facts
        poisons, source = _poisons(facts)
        if (line := facts.machine.logged("heap alloc:")) and not (poisons and facts.version < (5, 11)):
            return Answer(f"heap {kind}:on" in line, f'log: "{line.strip()}"')
        if poisons and facts.version >= (5, 11):
            return Answer(False, source)
        on, source = told(facts, f"init_on_{kind}")
        if on is None and facts.built is not None and facts.built.fills(kind) is not None:
            on, source = facts.built.fills(kind), f"init_on_{kind} of the image"
        return None if on is None else Answer(on, source)

    return rule


def _copies_freely(query: KeyQuery) -> Answer | None:
    checks, source = told(query.facts, "hardened_usercopy")
    return None if checks is None else Answer(not checks, source)


def _checks_pages(query: KeyQuery) -> Answer | None:
    for name in ("page_poison", "debug_pagealloc"):
        on, source = told(query.facts, name)
        if on:
            return Answer(True, source)
    found = [_heap(kind)(query) for kind in ("alloc", "free")]
    on_ = next((answer for answer in found if answer is not None and answer.value), None)
    return on_ or next((answer for answer in found if answer is not None), None)


def _slub_debug(query: KeyQuery) -> Answer | None:
    """setup_slub_debug(), parse_slub_debug_flags(): any flag but O, or a list of slabs."""
    name = query.facts.given("slub_debug", "slab_debug")
    if name is None:
        return None
    given = query.facts.option(name)
    on = not given or given.startswith(",") or "," in given or any(flag in given.lower() for flag in "fzputa")
    return Answer(on, f"{name}{'' if given is None else f'={given}'} on the command line")


def _psi_off(query: KeyQuery) -> Answer | None:
    on, source = told(query.facts, "psi")
    if on is None and query.facts.built is not None and query.facts.built.stalls is not None:
        on, source = query.facts.built.stalls, "psi_enable of the image"
    return None if on is None else Answer(not on, source)


def _psi_cgroups(query: KeyQuery) -> Answer | None:
    if "pressure" in _disabled(query.facts):
        return Answer(False, "cgroup_disable=pressure on the command line")
    off = _psi_off(query)
    return Answer(False, off.source) if off is not None and off.value else None


def _disabled(facts: Facts) -> list[str]:
    """The names of every ``cgroup_disable=``."""
    given = [value or "" for name, value in facts.machine.options if name == "cgroup_disable"]
    return [name for value in given for name in value.split(",")]


def _controller(*names: str) -> Rule:
    """``cgroup_disable=``, by one of its names."""

    def rule(query: KeyQuery) -> Answer | None:
        name = next((name for name in _disabled(query.facts) if name in names), None)
        return Answer(False, f"cgroup_disable={name} on the command line") if name is not None else None

    return rule


def _sysctl(facts: Facts, name: str) -> Answer | None:
    """What ``sysctl.NAME=`` says (process_sysctl_arg() of fs/proc/proc_sysctl.c, 5.8 and later)."""
    given = facts.option(f"sysctl.{name}") if facts.version >= (5, 8) else None
    if given is None or not given.isdigit():
        return None
    return Answer(given != "0", f"sysctl.{name}={given} on the command line")


def _schedstats(query: KeyQuery) -> Answer | None:
    if answer := _sysctl(query.facts, "kernel.sched_schedstats"):
        return answer
    given = query.facts.option("schedstats")
    if given not in ("enable", "disable"):
        return None
    return Answer(given == "enable", f"schedstats={given} on the command line")


def _balances(query: KeyQuery) -> Answer | None:
    """check_numabalancing_enable(): an option, else whether there is more than one node."""
    if answer := _sysctl(query.facts, "kernel.numa_balancing"):
        return answer
    given = query.facts.option("numa_balancing")
    if given in ("enable", "disable"):
        return Answer(given == "enable", f"numa_balancing={given} on the command line")
    found = re.search(r"nr_node_ids:(\d{1,5})", query.facts.machine.dmesg)
    return Answer(int(found.group(1)) > 1, f'log: "{found.group(0)}"') if found else None


def _delays(query: KeyQuery) -> Answer | None:
    if answer := _sysctl(query.facts, "kernel.task_delayacct"):
        return answer
    option = query.facts.given("delayacct", "nodelayacct")
    return None if option is None else Answer(option == "delayacct", f"{option} on the command line")


def _prints_events(query: KeyQuery) -> Answer | None:
    """set_tracepoint_printk(): anything but ``=0`` and ``=off``; ``tp_printk_stop_on_boot`` ends it."""
    facts = query.facts
    if not facts.given("tp_printk"):
        return None
    stops = facts.given("tp_printk_stop_on_boot")
    on = facts.option("tp_printk") not in ("0", "off") and not stops
    return Answer(on, f"{stops or 'tp_printk'} on the command line")


_HARDENING = "mm/mm_init.c: mem_debugging_and_hardening_init()"
_CGROUPS = "kernel/cgroup/cgroup.c: cgroup_disable()"
_CONTROLLERS = (
    *("cpuset", "cpu", "cpuacct", "memory", "devices", "freezer", "net_cls", "perf_event", "net_prio", "hugetlb"),
    *("pids", "rdma", "misc", "dmem", "debug"),
)

#: Key → rule.
RULES: Mapping[str, Entry] = {
    "init_on_alloc": Entry(_heap("alloc"), "mm/page_alloc.c: init_mem_debugging_and_hardening()"),
    "init_on_free": Entry(_heap("free"), "mm/page_alloc.c: init_mem_debugging_and_hardening()"),
    "bypass_usercopy_checks": Entry(_copies_freely, "mm/usercopy.c: set_hardened_usercopy() (as in 6.12)"),
    "validate_usercopy_range": switched("hardened_usercopy", "mm/usercopy.c: set_hardened_usercopy() (as in 7.2)"),
    "check_pages_enabled": Entry(_checks_pages, _HARDENING),
    "_page_poisoning_enabled": switched("page_poison", _HARDENING),
    "want_page_poisoning": switched("page_poison", "mm/page_poison.c: early_page_poison_param()"),
    "_debug_pagealloc_enabled": switched("debug_pagealloc", _HARDENING),
    "slub_debug_enabled": Entry(_slub_debug, "mm/slub.c: setup_slub_debug()"),
    "psi_disabled": Entry(_psi_off, "kernel/sched/psi.c: psi_init()"),
    "psi_cgroups_enabled": Entry(_psi_cgroups, "kernel/sched/psi.c: psi_init()"),
    "sched_schedstats": Entry(_schedstats, "kernel/sched/core.c: setup_schedstats()"),
    "sched_numa_balancing": Entry(_balances, "mm/mempolicy.c: check_numabalancing_enable()"),
    "page_alloc_shuffle_key": switched("page_alloc.shuffle", "mm/shuffle.c: shuffle_store()"),
    "zswap_ever_enabled": switched("zswap.enabled", "mm/zswap.c: zswap_setup()"),
    "tracepoint_printk_key": Entry(_prints_events, "kernel/trace/trace.c: early_trace_init()"),
    "delayacct_key": Entry(_delays, "kernel/delayacct.c: delayacct_init()"),
    "io_cgrp_subsys_enabled_key": Entry(_controller("io", "blkio"), _CGROUPS),
    **{f"{name}_cgrp_subsys_enabled_key": Entry(_controller(name), _CGROUPS) for name in _CONTROLLERS},
}
