"""Who reads the clock of a guest: what says so, what is guessed without a log, and what keeps it native."""

from __future__ import annotations

from typing import Any, cast

import pytest

from pvops.decide.answers import Facts
from pvops.decide.guest import clock_is_the_hypervisors, clock_reader
from pvops.decide.key_conditions import KeyQuery
from pvops.decide.key_rules import RULES
from pvops.decide.prediction import FeatureWords
from pvops.machine.machine import Machine

WHOLE = "Booting paravirtualized kernel on KVM\n"


def facts(hypervisor: str, cmdline: str = "quiet", log: str = "", **more: Any) -> Facts:
    given = {"hypervisor": hypervisor, "cmdline": cmdline, "dmesg": log, "flags": ["hypervisor"], **more}
    return Facts(Machine.from_dict(given), (6, 12), 64)


def key(name: str, machine: Facts) -> bool | None:
    answer = RULES[name].rule(KeyQuery(machine, cast(FeatureWords, None)))
    return None if answer is None else answer.value


@pytest.mark.parametrize(
    ("hypervisor", "cmdline", "log", "value", "best"),
    [
        ("kvm", "quiet", "", None, True),
        ("kvm", "no-kvmclock", "", None, False),
        ("kvm", "quiet", "kvm-clock: using sched offset of 1 cycles", True, True),
        ("kvm", "quiet", WHOLE, False, False),
        ("kvm", "quiet", "the rest of a log\n", None, True),
        ("vmware", "quiet", "", None, True),
        ("vmware", "no-vmw-sched-clock", "", None, False),
        ("vmware", "quiet", "vmware: using clock offset of 5 ns", True, True),
        ("vmware", "quiet", WHOLE, False, False),
        ("hyperv", "quiet", "", None, True),
        ("xen-pv", "xen_no_vector_callback", "", True, True),
        ("xen-hvm", "quiet", "", True, True),
        ("xen-hvm", "xen_no_vector_callback", "", False, False),
        ("xen-hvm", "quiet", "Xen doesn't support pvclock on HVM, disable pv timer", False, False),
        ("none", "quiet", "", False, False),
    ],
)
def test_the_log_tells_or_what_is_usual(
    hypervisor: str, cmdline: str, log: str, value: bool | None, best: bool
) -> None:
    answer = clock_is_the_hypervisors(facts(hypervisor, cmdline, log))
    assert (answer.value, answer.best) == (value, best)


def test_without_xens_clock_a_guest_has_no_stolen_time_and_no_locks_of_xens() -> None:
    """xen_hvm_init_time_ops(), xen_hvm_smp_init(): ``nopvspin`` is set there, and xen_init_spinlocks() looks."""
    usual = facts("xen-hvm", possible_cpus=2)
    assert key("paravirt_steal_enabled", usual) is True
    assert key("virt_spin_lock_key", usual) is True
    without = facts("xen-hvm", "xen_no_vector_callback", possible_cpus=2)
    assert key("paravirt_steal_enabled", without) is False
    assert key("virt_spin_lock_key", without) is False


@pytest.mark.parametrize("hypervisor", ["kvm", "xen-hvm"])
def test_a_kernel_that_does_not_look_at_its_hypervisor_has_the_lock_of_a_guest(hypervisor: str) -> None:
    """native_pv_lock_init(): with ``nopv`` nothing turns the key off again, be it one CPU."""
    single = facts(hypervisor, "nopv", possible_cpus=1)
    assert key("virt_spin_lock_key", single) is True


@pytest.mark.parametrize(
    ("features", "reader"),
    [
        (1 << 9 | 2, "read_hv_sched_clock_tsc"),
        (2, "read_hv_sched_clock_msr"),
        (0, None),
    ],
)
def test_hyper_v_counts_where_it_has_no_page_for_the_clock(features: int, reader: str | None) -> None:
    """hv_init_clocksource() of 5.13 to 6.1."""
    log = f"Hyper-V: privilege flags low {features:#x}, high 0x0, hints 0x0, misc 0x0\n"
    assert clock_reader(facts("hyperv", log=log))[0] == reader
