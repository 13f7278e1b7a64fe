"""Static keys by which a kernel clears the CPU's buffers, and whether threads share a core, and CPUs a cache.

Sources: arch/x86/kernel/cpu/bugs.c and kernel/sched of 5.10, 6.1, 6.12 and 7.2, the functions named.
"""

from __future__ import annotations

from collections.abc import Mapping

from pvops.decide.answers import Answer
from pvops.decide.key_conditions import Entry, KeyQuery

#: Since then tsa_apply_mitigation() does nothing without microcode.
_SPLIT = (6, 16)


def _smt(query: KeyQuery) -> Answer | None:
    siblings, cores = query.facts.machine.siblings, query.facts.machine.cores
    if siblings is None or cores is None:
        return None
    return Answer(siblings > cores, f"/proc/cpuinfo: {siblings} siblings, {cores} cores")


def _many_caches(query: KeyQuery) -> Answer | None:
    """sd_in_multi_llcs(): CPUs share a last cache, and there are more with another one.

    Each package has one; whether it has more of them /proc/cpuinfo does not tell.
    """
    siblings, online = query.facts.machine.siblings, query.facts.machine.online_cpus
    if siblings is None or online is None or (1 < siblings == online):
        return None
    return Answer(online > siblings > 1, f"/proc/cpuinfo: {siblings} siblings, {online} CPUs online")


def _idle_clear(query: KeyQuery) -> Answer | None:
    facts, smt = query.facts, _smt(query)
    text = facts.state("mmio_stale_data") or ""
    if "Clear CPU buffers" in text:
        return Answer(True, f"vulnerabilities/mmio_stale_data: {text!r}")
    if "Clear CPU buffers" in (text := facts.state("mds") or ""):
        only = bool(facts.bug("msbds_only"))
        return Answer(only and bool(smt and smt.value), f"vulnerabilities/mds: {text!r}; msbds_only is {only}")
    if "Clear CPU buffers" in (text := facts.state("tsa") or ""):
        does = "no microcode" not in text or facts.version < _SPLIT
        return Answer(does and bool(smt and smt.value), f"vulnerabilities/tsa: {text!r}")
    return None


def _user_clear(query: KeyQuery) -> Answer | None:
    for name in ("mds", "tsx_async_abort"):
        text = query.facts.state(name)
        if text is not None and "Clear CPU buffers" in text:
            return Answer(True, f"vulnerabilities/{name}: {text!r}")
    told = query.facts.state("mds")
    return None if told is None else Answer(False, f"vulnerabilities/mds: {told!r}")


def _mmio_clear(query: KeyQuery) -> Answer | None:
    text = query.facts.state("mmio_stale_data") or ""
    clear = query.words.named("CLEAR_CPU_BUF")
    if "Clear CPU buffers" not in text or clear is None:
        return None
    return Answer(not clear.guess, f"vulnerabilities/mmio_stale_data; CLEAR_CPU_BUF is {clear.guess}")


_CACHES = "kernel/sched/topology.c: sched_cache_set(), _sched_cache_active_set()"
_IDLE = "bugs.c: update_mds_branch_idle(), cpu_bugs_smt_update(), mmio_select_mitigation()"

#: Key → rule.
RULES: Mapping[str, Entry] = {
    "sched_smt_present": Entry(_smt, "kernel/sched/core.c: sched_cpu_activate()"),
    "sched_cache_present": Entry(_many_caches, _CACHES),
    "sched_cache_active": Entry(_many_caches, _CACHES),
    "cpu_buf_idle_clear": Entry(_idle_clear, _IDLE),
    "mds_idle_clear": Entry(_idle_clear, _IDLE),
    "mds_user_clear": Entry(_user_clear, "bugs.c: mds_select_mitigation(), taa_select_mitigation(), to 6.7"),
    "mmio_stale_data_clear": Entry(_mmio_clear, "bugs.c: mmio_select_mitigation()"),
}
