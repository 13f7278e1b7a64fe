"""Whether virt_spin_lock() stands in for queued locks below KVM: what the log says, else what the host offers."""

from __future__ import annotations

from typing import Any, cast

import pytest

from image import small
from pvops.decide.answers import Facts
from pvops.decide.guest import guest_code_runs
from pvops.decide.key_conditions import KeyQuery
from pvops.decide.key_rules import RULES
from pvops.decide.prediction import FeatureWords
from pvops.image.built import Built
from pvops.machine.machine import Machine

#: CPUID leaf 0x40000001, eax: bit 7 is KVM_FEATURE_PV_UNHALT; edx: bit 0 is KVM_HINTS_REALTIME.
LEAF, UNHALT = "0x40000001", 1 << 7
SPECTRE = "cpu_show_spectre_v2"


def facts(
    version: tuple[int, int] = (6, 12), functions: tuple[str, ...] = (), hypervisor: str = "kvm", **more: Any
) -> Facts:
    """A guest, and a kernel that has these functions."""
    given = {"hypervisor": hypervisor, "flags": ["hypervisor"], "cmdline": "quiet", "possible_cpus": 2, **more}
    symbols = {name: small.TEXT + 8 + n for n, name in enumerate(functions)}
    built = Built(small.kernel(b"\x90" * 64, symbols=symbols)) if functions else None
    return Facts(Machine.from_dict(given), version, 64, built)


def leaf(eax: int, edx: int = 0) -> dict[str, Any]:
    signature = {"eax": LEAF, "ebx": "0x4b4d564b", "ecx": "0x564b4d56", "edx": "0x4d"}
    return {"cpuid": {"0x40000000": signature, LEAF: {"eax": hex(eax), "ebx": "0", "ecx": "0", "edx": hex(edx)}}}


def taken(machine: Facts) -> bool | None:
    answer = RULES["virt_spin_lock_key"].rule(KeyQuery(machine, cast(FeatureWords, None)))
    return None if answer is None else answer.value


@pytest.mark.parametrize(
    ("said", "on"),
    [
        ("PV spinlocks enabled", False),
        ("PV spinlocks disabled, no host support", True),
        ("PV spinlocks disabled, single CPU", False),
        ('PV spinlocks disabled, forced by "nopvspin" parameter', False),
        ("PV spinlocks disabled with KVM_HINTS_REALTIME hints", False),
    ],
)
@pytest.mark.parametrize("features", [leaf(0), leaf(UNHALT), leaf(0, 1), {}])
def test_the_log_has_the_last_word(said: str, on: bool, features: dict[str, Any]) -> None:
    assert taken(facts(dmesg=f"[    0.1] kvm-guest: {said}\n", **features)) is on


@pytest.mark.parametrize(
    ("given", "before", "since"),
    [
        (leaf(UNHALT), False, False),
        (leaf(0), True, True),
        (leaf(0, 1), True, False),
        (leaf(0) | {"possible_cpus": 1}, True, False),
        (leaf(0) | {"cmdline": "nopvspin"}, True, False),
    ],
)
def test_without_a_log_the_hosts_features_tell(given: dict[str, Any], before: bool, since: bool) -> None:
    """960550503965 (6.18) turns it off for what makes pv spin locks needless before it asks the host for them."""
    assert taken(facts((6, 12), **given)) is before
    assert taken(facts((6, 18), **given)) is since


@pytest.mark.parametrize(("hypervisor", "function"), [("kvm", "kvm_guest_init"), ("xen-hvm", "xen_hvm_guest_init")])
def test_a_kernel_without_a_hypervisors_code_has_the_lock_of_a_guest(hypervisor: str, function: str) -> None:
    given = leaf(UNHALT) | {"possible_cpus": 1}
    without = facts(functions=(SPECTRE,), hypervisor=hypervisor, **given)
    assert guest_code_runs(without).value is False
    assert taken(without) is True
    locks = ("kvm_spinlock_init", "xen_init_spinlocks")
    assert taken(facts(functions=(SPECTRE, function, *locks), hypervisor=hypervisor, **given)) is False
    # CONFIG_PARAVIRT_SPINLOCKS alone is missing.
    assert taken(facts(functions=(SPECTRE, function), hypervisor=hypervisor, **given)) is True
