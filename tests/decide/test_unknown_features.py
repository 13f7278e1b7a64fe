"""What hangs on a feature that the machine does not tell is undetermined; what is given is never dropped."""

from __future__ import annotations

import pytest

from image import small
from pvops.decide.backend import backend_for
from pvops.errors import MachineError, OpsError
from pvops.kernel import Kernel
from pvops.machine.machine import Machine

SMAP, XMM2 = 9 * 32 + 20, 26
CLAC = bytes.fromhex("0f01ca")


def kernel() -> Kernel:
    """An image without CONFIG_PARAVIRT and without names of its features: one site asks for SMAP."""
    return small.kernel(b"\x90" * 16 + b"\xc3", [small.Alternative(0, 3, SMAP, CLAC)])


def machine(**given: object) -> Machine:
    document: dict[str, object] = {"vendor": "GenuineIntel", "family": 6, "model": 85, "online_cpus": 2}
    return Machine.from_dict(document | given)


def test_a_given_flag_settles_its_sites() -> None:
    with_smap = kernel().plan(machine=machine(flags="fpu smap pge", hypervisor="none"))
    assert with_smap.apply()[:3] == CLAC
    assert [site for site in with_smap.undetermined if site.table == "alternatives"] == []


def test_a_flag_that_nothing_tells_leaves_its_sites_undetermined() -> None:
    plan = kernel().plan(machine=machine(hypervisor="none"))
    (site,) = [site for site in plan.undetermined if site.table == "alternatives"]
    assert (site.address, site.len) == (small.TEXT, 3)
    assert {plan.apply()[:3].hex(), CLAC.hex()} == set(site.forms)


@pytest.mark.parametrize("there", [True, False])
def test_a_feature_of_the_description_goes_over_everything_else(there: bool) -> None:
    """By the kernel's name, with or without ``X86_FEATURE_``; the document keeps it."""
    described = machine(flags="fpu pge" if there else "fpu smap pge", features={"X86_FEATURE_SMAP": there})
    described = Machine.from_dict(described.to_dict())
    assert described.features == {"SMAP": there}
    plan = kernel().plan(machine=described)
    assert (plan.apply()[:3] == CLAC) == there
    assert [site for site in plan.undetermined if site.table == "alternatives"] == []


def test_a_feature_that_the_kernel_does_not_know_is_refused() -> None:
    with pytest.raises(OpsError, match=r"features\.SMPA: .* knows no such feature"):
        kernel().plan(machine=machine(flags="fpu", features={"SMPA": True}))
    with pytest.raises(MachineError, match="features: must be a table"):
        machine(features={"SMAP": "yes"})


@pytest.mark.parametrize(
    ("log", "feature", "taken"),
    [
        ("Supporting XSAVE feature 0x004: 'AVX registers'", SMAP, True),
        ("x87 FPU will use FXSAVE", SMAP, False),
        ("x87 FPU will use FXSAVE", XMM2, True),
        ("nothing of the kind", SMAP, False),
    ],
)
def test_what_the_fpu_saves_tells_what_to_assume_where_flags_are_missing(log: str, feature: int, taken: bool) -> None:
    """It is a guess, and stays undetermined."""
    opened = small.kernel(b"\x90" * 16 + b"\xc3", [small.Alternative(0, 3, feature, CLAC)])
    plan = opened.plan(machine=machine(hypervisor="none", dmesg=f"[    0.1] x86/fpu: {log}\n"))
    assert (plan.apply()[:3] == CLAC) == taken
    assert len([site for site in plan.undetermined if site.table == "alternatives"]) == 1


def test_a_kernel_without_ops_is_planned_and_judged() -> None:
    opened = kernel()
    plan = opened.plan(machine=machine(flags="fpu smap pge", hypervisor="none"))
    report = opened.verify(plan.apply())
    assert report, report.unexplained
    assert (len(opened.ops), report.backend) == (0, "native")


@pytest.mark.parametrize(
    ("clock", "flags", "hypervisor"),
    [
        ("kvm-clock", "fpu hypervisor pge", "kvm"),
        ("hyperv_clocksource_tsc_page", "fpu hypervisor pge", "hyperv"),
        ("xen", "fpu hypervisor pge", "xen-hvm"),
        ("xen", "fpu hypervisor", "xen-pv"),
        ("tsc", "fpu hypervisor pge", None),
        ("tsc", "fpu pge", "none"),
    ],
)
def test_the_clock_source_names_the_hypervisor(clock: str, flags: str, hypervisor: str | None) -> None:
    found = machine(flags=flags, clocksource=clock).hypervisor
    assert found.value == hypervisor
    if hypervisor is None:
        assert "nothing tells which" in found.source


def test_an_unknown_hypervisor_drops_no_flag() -> None:
    opened = kernel()
    plan = opened.plan(machine=machine(flags="fpu smap pge hypervisor", clocksource="tsc"))
    assert plan.setup.machine.flags is not None
    assert "hypervisor" in plan.setup.machine.flags


def test_a_hypervisor_whose_guest_code_the_kernel_lacks_leaves_it_native() -> None:
    choice = backend_for(kernel(), machine(hypervisor="kvm", flags="fpu hypervisor pge"))
    assert choice.name == "native"
    assert "built without" in choice.why
