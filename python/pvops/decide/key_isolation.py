"""Static keys of CPUs that are kept for other work: ``isolcpus=``, ``nohz_full=``; or that are never started.

Sources: kernel/sched/isolation.c, kernel/time/tick-sched.c of 5.14, 6.12 and 7.2, the functions named.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from pvops.decide.answers import Answer, Facts
from pvops.decide.key_conditions import Entry, KeyQuery
from pvops.machine.cmdline import number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.machine.machine import Machine

#: housekeeping_setup(): an option that names no CPU of the machine does nothing.
_NO_RANGE = "Housekeeping: nohz_full= or isolcpus= incorrect CPU range"
#: A kernel that cannot stop ticks says so.
_UNSUPPORTED = "Housekeeping: nohz unsupported. Build with CONFIG_NO_HZ_FULL"
#: A second option that names other CPUs does nothing either.
_OTHERS = ("Housekeeping: nohz_full= must match isolcpus=", "Housekeeping: must include one present CPU neither in")
#: tick_nohz_init(): without a local APIC no CPU goes without ticks.
_NO_SELF_IPI = "Can't run full dynticks because arch doesn't support IRQ work self-IPIs"
#: All CPUs named: the first one is taken out, and since 5097cbcb38e6 (6.9) an option is dropped that then names none.
_FIRST, _DROPPED = "Housekeeping: must include one present CPU, using boot CPU", (6, 9)


def _asked(facts: Facts) -> Iterator[tuple[str, bool]]:
    """Each option in order, and whether it stops ticks: ``isolcpus=nohz,1`` is ``nohz_full=1``, and more.

    Without CONFIG_NO_HZ_FULL those that do are refused.
    """
    refused = _UNSUPPORTED in facts.machine.dmesg or facts.without("tick_nohz_init", "tick_nohz_full_setup")
    yield from (option for option in _given(facts) if not (refused and option[1]))


def _given(facts: Facts) -> Iterator[tuple[str, bool]]:
    for name, value in facts.machine.options:
        if name.replace("-", "_") == "nohz_full" and value is not None:
            yield f"nohz_full={value}", True
        elif name == "isolcpus" and value is not None:
            flags = [word for word in value.split(",") if word[:1].isalpha()]
            yield f"isolcpus={value}", "nohz" in flags


def _kept(query: KeyQuery, asked: list[tuple[str, bool]]) -> Answer | None:
    facts = query.facts
    log = facts.machine.dmesg
    if not asked:
        return None
    if log.count(_NO_RANGE) >= len(list(_given(facts))):
        return Answer(False, f'log: "{_NO_RANGE}"')
    if _FIRST in log and facts.machine.possible_cpus.value == 1 and facts.version >= _DROPPED:
        return Answer(False, f'log: "{_FIRST}", and there is no other')
    return Answer(True, f"{asked[0][0]} on the command line")


def _overridden(query: KeyQuery) -> Answer | None:
    return _kept(query, list(_asked(query.facts)))


def _tracks(query: KeyQuery) -> Answer | None:
    if any(quiet for _, quiet in _asked(query.facts)) and _NO_SELF_IPI in query.facts.machine.dmesg:
        return Answer(False, f'log: "{_NO_SELF_IPI}"')
    return _quiet(query)


def _quiet(query: KeyQuery) -> Answer | None:
    """Whether some CPU is kept from ticks and the kernel's other noise."""
    facts = query.facts
    every = list(_asked(facts))
    asked = [option for option in every if option[1]]
    refused = next((line for line in _OTHERS if line in facts.machine.dmesg), None)
    if refused is not None and asked and not every[0][1]:
        return Answer(False, f'log: "{refused}"')
    return _kept(query, asked)


def _stamps(query: KeyQuery) -> Answer | None:
    """net_dev_init(): so that no CPU without ticks is interrupted for it later."""
    return _quiet(query) if query.facts.version >= _STAMPED else None


def _ipi_shorthand(query: KeyQuery) -> Answer | None:
    machine = query.facts.machine
    if query.facts.option("no_ipi_broadcast") not in (None, "0"):
        return Answer(False, "no_ipi_broadcast on the command line")
    if machine.online_cpus is None:
        return None
    most, present = number(query.facts.option("maxcpus") or ""), _present(machine)
    if most and present is not None and most < present:
        return Answer(False, f"maxcpus={most} on the command line leaves some of {present} CPUs without a boot")
    return Answer(machine.online_cpus > 1, f"{machine.online_cpus} CPUs online")


def _present(machine: Machine) -> int | None:
    """How many CPUs are there, started or not."""
    if found := re.search(r"Allowing (\d{1,5}) present CPUs plus", machine.dmesg):  # 6.9 and later
        return int(found[1])
    if found := re.search(r"Allowing (\d{1,5}) CPUs, (\d{1,5}) hotplug CPUs", machine.dmesg):
        return int(found[1]) - int(found[2])
    return machine.possible_cpus.value


def _ipi_mask(query: KeyQuery) -> Answer | None:
    possible, source = query.facts.machine.possible_cpus
    # With CONFIG_CPUMASK_OFFSTACK: 256 CPUs and fewer are counted by CONFIG_NR_CPUS.
    return None if possible is None else Answer(possible <= query.facts.bits, f"{possible} possible CPUs ({source})")


#: So in 6.12, and not in 6.4.
_STAMPED = (6, 9)

#: Key → rule.
RULES: Mapping[str, Entry] = {
    "housekeeping_overridden": Entry(_overridden, "kernel/sched/isolation.c: housekeeping_init()"),
    "context_tracking_key": Entry(_tracks, "kernel/context_tracking.c: ct_cpu_track_user()"),
    "apic_use_ipi_shorthand": Entry(_ipi_shorthand, "arch/x86/kernel/apic/ipi.c: apic_smt_update()"),
    "ipi_mask_inlined": Entry(_ipi_mask, "kernel/smp.c: setup_nr_cpu_ids() (7.3)"),
    "netstamp_needed_key": Entry(_stamps, "net/core/dev.c: net_dev_init()"),
}
