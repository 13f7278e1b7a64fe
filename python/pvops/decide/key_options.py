"""Static keys that options on the command line turn on or off: one rule a key.

Sources: the functions named, of 5.10, 6.1, 6.12 and 7.2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pvops.decide.answers import Answer, Facts
from pvops.decide.key_conditions import Entry, KeyQuery, Rule, given, said, switched, told
from pvops.decide.key_sysctls import switch, written
from pvops.machine.cmdline import number


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
    for name in ("page_poison", "debug_pagealloc", *(["check_pages"] if query.facts.version >= _CHECKED else [])):
        on, source = told(query.facts, name)
        if on:
            return Answer(True, source)
    found = [_heap(kind)(query) for kind in ("alloc", "free")]
    on_ = next((answer for answer in found if answer is not None and answer.value), None)
    return on_ or next((answer for answer in found if answer is not None), None)


def _slub_debug(query: KeyQuery) -> Answer | None:
    """setup_slub_debug(), parse_slub_debug_flags(): any flag but O after the last ``-``, or a list of slabs."""
    on, source = None, ""
    lists = False
    for name, value in query.facts.machine.options:
        plain = name.replace("-", "_")
        if plain != "slub_debug" and (plain != "slab_debug" or query.facts.version < _SLAB):
            continue
        source = f"{name}{'' if value is None else f'={value}'} on the command line"
        flags = [_slub_flags(block) for block in re.split(";+", (value or "").strip(";"))]
        # A list of slabs is kept, whatever is said later.
        lists = lists or any(listed for _, listed in flags)
        everywhere = [any_flag for any_flag, listed in flags if not listed]
        on = lists or (everywhere[-1] if value and everywhere else True)
    return None if on is None else Answer(on, source)


def _slub_flags(block: str) -> tuple[bool, bool]:
    """Whether a block of parse_slub_debug_flags() sets a flag, and whether it is for some slabs: ``FZ-P,dentry``."""
    letters, comma, _ = block.lower().partition(",")
    after = letters.rpartition("-")[2]
    return (bool(comma) and not letters) or any(flag in after for flag in "fzputa"), bool(comma)


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


def _schedstats(query: KeyQuery) -> Answer | None:
    """setup_schedstats(); profile_setup(), which up to 6.10 counts with them (force_schedstat_enabled())."""
    facts = query.facts
    if answer := switch(facts, "kernel.sched_schedstats"):
        return answer
    on, source = None, ""
    for name, value in facts.machine.options:
        if name == "schedstats" and value in ("enable", "disable"):
            on, source = value == "enable", f"schedstats={value} on the command line"
        elif name == "profile" and (value or "").startswith("sleep") and facts.logged(_PROFILED):
            on, source = True, f'profile={value} on the command line, log: "{_PROFILED}"'
    if facts.version >= _SETTLED_LATER:
        return None if on is None else Answer(on, source)
    # There init_schedstats() sets what schedstats= said, after both.
    given = facts.last("schedstats", ("enable", "disable"))
    return None if given is None else Answer(given == "enable", f"schedstats={given} on the command line")


def _balances(query: KeyQuery) -> Answer | None:
    """check_numabalancing_enable(): an option, else whether there is more than one node."""
    facts = query.facts
    # c574bbe91703 (5.18): 2 balances between kinds of memory; before, more than 1 is refused.
    if answer := switch(facts, "kernel.numa_balancing", 4 if facts.version >= (5, 18) else 1):
        return answer
    given = facts.last("numa_balancing", ("enable", "disable"))
    if given is not None:
        return Answer(given == "enable", f"numa_balancing={given} on the command line")
    if said := re.search(r"(En|Dis)abling automatic NUMA balancing", facts.machine.dmesg):
        return Answer(said[1] == "En", f'log: "{said[0]}"')
    found = re.search(r"nr_node_ids:(\d{1,5})", query.facts.machine.dmesg)
    return Answer(int(found.group(1)) > 1, f'log: "{found.group(0)}"') if found else None


def _delays(query: KeyQuery) -> Answer | None:
    if answer := switch(query.facts, "kernel.task_delayacct"):
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


def _guards(query: KeyQuery) -> Answer | None:
    """Pages that nobody has, with debug_pagealloc (debug_guardpage_minorder_setup())."""
    on, _ = told(query.facts, "debug_pagealloc")
    given = query.facts.option("debug_guardpage_minorder")
    if not on or given is None or not given.isdigit():
        return None
    return Answer(int(given) > 0, f"debug_pagealloc, debug_guardpage_minorder={given} on the command line")


def _duration(query: KeyQuery) -> Answer | None:
    """irqhandler_duration_check_setup(): microseconds, not 0."""
    given = query.facts.option("irqhandler.duration_warn_us")
    if given is None or not given.isdigit():
        return None
    return Answer(int(given) > 0, f"irqhandler.duration_warn_us={given} on the command line")


def _whole(option: str) -> Rule:
    """An option that is a number, as get_option() and kstrtol() read it: 0 turns the key off."""

    def rule(query: KeyQuery) -> Answer | None:
        value = query.facts.option(option)
        read = number(value) if value is not None else None
        return None if read is None else Answer(read != 0, f"{option}={value} on the command line")

    return rule


def _runs_for_others(query: KeyQuery) -> Answer | None:
    """setup_proxy_exec(): on without a value."""
    facts = query.facts
    if facts.given("sched_proxy_exec") and facts.option("sched_proxy_exec") is None:
        return Answer(True, "sched_proxy_exec on the command line")
    on, source = told(facts, "sched_proxy_exec")
    return None if on is None else Answer(on, source)


def _unchecked(query: KeyQuery) -> Answer | None:
    on, source = told(query.facts, "page_table_check")
    return None if on is None else Answer(not on, source)


def _guards_some(query: KeyQuery) -> Answer | None:
    """kfence_init_enable(): on for good, but where CONFIG_KFENCE_STATIC_KEYS turns it on and off again."""
    facts = query.facts
    value = facts.option("kfence.sample_interval")
    interval = number(value) if value is not None else None
    if interval is None or not facts.without("wake_up_kfence_timer"):
        return None
    return Answer(interval > 0, f"kfence.sample_interval={value} on the command line")


def _flushes_data(query: KeyQuery) -> Answer | None:
    """l1d_flush_parse_cmdline(): "on" alone, where the CPU can."""
    if query.facts.option("l1d_flush") != "on":
        return None
    can = query.facts.flag("flush_l1d")
    why = "the CPU has flush_l1d" if can else "no flush_l1d"
    return None if can is None else Answer(can, f"l1d_flush=on on the command line, {why}")


def _frees_structs(query: KeyQuery) -> Answer | None:
    """Huge pages whose ``struct page``s are freed: where that is on and there are such pages (6.0 and later)."""
    facts = query.facts
    on, source = told(facts, "hugetlb_free_vmemmap")
    if told_ := switch(facts, "vm.hugetlb_optimize_vmemmap"):
        on, source = told_.value, told_.source
    if on is None or facts.version < (6, 0):
        return None if on is None else Answer(on, source)
    if not on:
        return Answer(False, source)
    made = re.search(r"HugeTLB: registered .* page size, pre-allocated ([1-9]\d*) pages", facts.machine.dmesg)
    more = written(facts, "vm.nr_hugepages", 1 << 30)
    why = f'log: "{made[0]}"' if made else more[1] if more is not None and more[0] else "no huge page is made"
    return Answer(why != "no huge page is made", f"{source}; {why}")


#: 6.9: "slub: unify all slub parameters with slab_$param".
_SLAB = (6, 9)
#: check_pages= is an option of 7.2, and none of 6.12.
_CHECKED = (7, 0)
#: Since then schedstats= turns the key where it stands, as 5.14 does and 5.10 does not.
_SETTLED_LATER = (5, 14)
_PROFILED = "kernel profiling enabled schedstats"


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
    "page_owner_inited": switched("page_owner", "mm/page_owner.c: init_page_owner()"),
    "_debug_guardpage_enabled": Entry(_guards, _HARDENING),
    "hugetlb_optimize_vmemmap_key": Entry(_frees_structs, "mm/hugetlb_vmemmap.c: hugetlb_vmemmap_optimize_folio()"),
    "x32_enabled_skey": switched("syscall.x32", "arch/x86/entry: x32_param_set(), of Debian's kernels"),
    "use_backlog_threads_key": given("net/core/dev.c: setup_backlog_napi_threads()", "thread_backlog_napi"),
    "rseq_debug_enabled": switched("rseq_debug", "kernel/rseq.c: rseq_setup_debug()"),
    "irqhandler_duration_check_enabled": Entry(_duration, "kernel/irq/handle.c: irqhandler_duration_check_setup()"),
    "rseq_slice_extension_key": switched("rseq_slice_ext", "kernel/rseq.c: rseq_slice_cmdline()"),
    "mc_debug": given("arch/x86/xen/multicalls.c: xen_parse_mc_debug()", "xen_mc_debug"),
    "strict_numa": said("SLUB: Strict NUMA enabled.", "mm/slub.c: setup_slab_strict_numa()"),
    "csdlock_debug_enabled": Entry(_whole("csdlock_debug"), "kernel/smp.c: csdlock_debug()"),
    "rt_group_sched": Entry(_whole("rt_group_sched"), "kernel/sched/core.c: setup_rt_group_sched()"),
    "__sched_proxy_exec": Entry(_runs_for_others, "kernel/sched/core.c: setup_proxy_exec()"),
    "page_table_check_disabled": Entry(_unchecked, "mm/page_table_check.c: init_page_table_check()"),
    "iommu_debug_initialized": switched("iommu.debug_pagealloc", "drivers/iommu/iommu-debug-pagealloc.c"),
    "kfence_allocation_key": Entry(_guards_some, "mm/kfence/core.c: kfence_init_enable()"),
    "switch_mm_cond_l1d_flush": Entry(_flushes_data, "bugs.c: l1d_flush_select_mitigation()"),
    "delayacct_key": Entry(_delays, "kernel/delayacct.c: delayacct_init()"),
    "io_cgrp_subsys_enabled_key": Entry(_controller("io", "blkio"), _CGROUPS),
    **{f"{name}_cgrp_subsys_enabled_key": Entry(_controller(name), _CGROUPS) for name in _CONTROLLERS},
}
