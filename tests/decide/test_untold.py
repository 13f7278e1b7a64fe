"""A machine that does not tell all: what hangs on it is a first guess of `patch`, and no fact to `verify`."""

from __future__ import annotations

import pytest

import pvops
from pvops import sample
from pvops.backends.conditions import cpus_more_than, feature, flag, no_option
from pvops.decide.answers import facts_of
from pvops.decide.prediction import by_rule
from pvops.kernel import Kernel
from pvops.machine.machine import Machine


def opened(era: str) -> Kernel:
    functions = sample.backend_functions(era, ("native", "kvm", "xen"))
    return pvops.open(sample.build(era, 64, functions=functions, tables=True).elf)


def test_what_is_known_of_one_condition_may_decide_without_the_other() -> None:
    told = Machine(name="told", hypervisor="kvm", possible_cpus=1, cmdline="nopvspin")
    both = cpus_more_than(1) & feature("PV_UNHALT")
    assert both(None, "kvm")[::2] == (True, True)
    assert both(told, "kvm")[::2] == (False, False), "one CPU is enough to say no"
    assert (~no_option("nopvspin") | feature("PV_UNHALT"))(told, "kvm")[::2] == (True, False)
    assert (cpus_more_than(0) & feature("PV_UNHALT"))(told, "kvm")[::2] == (True, True)
    assert (~flag("monitor", "MWAIT"))(told, "kvm")[::2] == (True, True)


@pytest.mark.parametrize("cpus", [None, 1, 2])
def test_locks_hang_on_the_number_of_cpus(cpus: int | None) -> None:
    kernel = opened("6.1")
    guest = {"hypervisor": "xen-pv", "cmdline": "", "vendor": "GenuineIntel", "flags": ["fpu"], "bugs": []}
    texts = {}
    for number in (1, 2):
        machine = Machine.from_dict({**guest, "possible_cpus": number})
        texts[number] = kernel.plan("xen", machine=machine).apply()
    assert texts[1] != texts[2]
    machine = Machine.from_dict({**guest, **({} if cpus is None else {"possible_cpus": cpus})})
    plan = kernel.plan("xen", machine=machine)
    start = next(low for name, low, *_ in kernel.image.sections() if name == ".text")
    open_ = {at for site in plan.undetermined for at in range(site.address - start, site.address - start + site.len)}
    planned = plan.apply()
    for number, text in texts.items():
        wrong = {at for at, (a, b) in enumerate(zip(planned, text, strict=True)) if a != b}
        if cpus in (None, number):
            assert wrong <= open_
            assert kernel.verify(text, machine=machine)
        else:
            assert not wrong <= open_


def test_a_cpu_that_is_not_told_may_take_either_table_of_nops() -> None:
    kernel = opened("5.10")
    start = next(low for name, low, *_ in kernel.image.sections() if name == ".text")
    untold = Machine.from_dict({"hypervisor": "none", "cmdline": "", "flags": ["fpu"], "bugs": [], "possible_cpus": 2})
    plan = kernel.plan("native", machine=untold)
    open_ = {at for site in plan.undetermined for at in range(site.address - start, site.address - start + site.len)}
    texts = []
    for vendor, family in (("GenuineIntel", 6), ("AuthenticAMD", 15)):
        told = Machine.from_dict({**untold.to_dict(), "vendor": vendor, "family": family, "model": 85})
        texts.append(kernel.plan("native", machine=told).apply())
        wrong = {at for at, (a, b) in enumerate(zip(plan.apply(), texts[-1], strict=True)) if a != b}
        assert wrong <= open_
        assert kernel.verify(texts[-1], machine=untold)
    assert texts[0] != texts[1]


def test_a_log_that_has_a_line_is_not_one_that_lacks_it() -> None:
    """4.1 says ``kvm-stealtime: cpu 0``, 5.10 ``kvm-guest: stealtime: cpu 0``."""
    whole = "Linux version 4.1.13\nBooting paravirtualized kernel on KVM\n"
    for line, has in (
        ("kvm-stealtime: cpu 0, msr 13c0e300\n", True),
        ("kvm-guest: stealtime: cpu 0\n", True),
        ("", False),
    ):
        machine = Machine(name="guest", dmesg=whole + line)
        assert machine.feature("kvm", "STEAL_TIME").value is has


def test_a_cpu_that_is_not_told_may_have_any_bug() -> None:
    facts = facts_of(Machine(name="untold", dmesg="Linux version 6.12.117\n"), opened("6.12"))
    for name in ("SRSO", "INDIRECT_THUNK_ITS"):
        answer = by_rule(facts, name)
        assert answer is not None
        assert answer.value is None, answer


@pytest.mark.parametrize(("cpus", "value"), [(None, None), (1, False), (2, True)])
def test_a_lock_that_hangs_on_cpus_is_a_feature_that_does(cpus: int | None, value: bool | None) -> None:
    machine = Machine(name="guest", hypervisor="xen-pv", cmdline="", possible_cpus=cpus, dmesg="Linux version 6.12.1\n")
    answer = by_rule(facts_of(machine, opened("6.12")), "PVUNLOCK")
    assert answer is not None
    assert answer.value is value, answer


@pytest.mark.parametrize("era", ["4.10", "5.10", "6.1", "6.12"])
@pytest.mark.parametrize("hypervisor", ["kvm", "vmware", "hyperv", "xen-hvm"])
def test_a_guest_of_nobody_knows_which_hypervisor_is_open_where_hypervisors_differ(era: str, hypervisor: str) -> None:
    functions = sample.backend_functions(era, ("native", "kvm", "vmware", "hyperv", "xen-hvm"))
    kernel = pvops.open(sample.build(era, 64, functions=functions, tables=True).elf)
    start = next(low for name, low, *_ in kernel.image.sections() if name == ".text")
    untold = {"cmdline": "", "vendor": "GenuineIntel", "flags": ["fpu", "hypervisor"], "bugs": [], "possible_cpus": 2}
    plan = kernel.plan(machine=Machine.from_dict(untold))
    assert plan.backend.name == "native"
    open_ = {at for site in plan.undetermined for at in range(site.address - start, site.address - start + site.len)}
    told = kernel.plan(hypervisor, machine=Machine.from_dict({**untold, "hypervisor": hypervisor})).apply()
    wrong = {at for at, (a, b) in enumerate(zip(plan.apply(), told, strict=True)) if a != b}
    assert wrong or (hypervisor, era) == ("hyperv", "4.10"), "it had no ops of its own yet"
    assert wrong <= open_
    bare = kernel.plan(machine=Machine.from_dict({**untold, "hypervisor": "none", "flags": ["fpu"]}))
    assert len(bare.undetermined) < len(plan.undetermined)
