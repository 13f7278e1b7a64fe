"""Feature words: from the CPUID leaf, else from what the kernel's log says and does not say."""

from __future__ import annotations

import pytest

from pvops.errors import OpsError
from pvops.machine.machine import Machine

KVM = "[0] Hypervisor detected: KVM\n[0] Booting paravirtualized kernel on KVM\n"


def leaves(signature: bytes, base: int, **words: int) -> dict[tuple[int, int], dict[str, int]]:
    parts = [int.from_bytes(signature[i : i + 4], "little") for i in (0, 4, 8)]
    out = {(base, 0): dict(zip(("eax", "ebx", "ecx", "edx"), [base + 16, *parts], strict=True))}
    for name, value in words.items():
        out[base + int(name[1:]), 0] = {"eax": value, "ebx": 0, "ecx": 0, "edx": 0}
    return out


def test_the_leaf_behind_another_hypervisors_leaves() -> None:
    both = leaves(b"Microsoft Hv", 0x40000000, l3=0, l4=0) | leaves(b"KVMKVMKVM\0\0\0", 0x40000100, l1=1 << 7)
    machine = Machine(cpuid=both)
    assert machine.hypervisor == ("kvm", "signature in cpuid leaf 0x40000100")
    assert machine.features_of("kvm") == (0x80, "cpuid leaf 0x40000101")
    assert machine.features_of("hyperv") == (0, "cpuid leaf 0x40000003")


def test_the_log_stands_in_for_the_leaf() -> None:
    machine = Machine(dmesg=f"{KVM}[0] kvm-guest: PV spinlocks enabled\n")
    assert machine.feature("kvm", "PV_UNHALT") == (True, 'log: "kvm-guest: PV spinlocks enabled"')
    assert machine.feature("kvm-hints", "REALTIME").value is False
    assert machine.feature("kvm", "NOP_IO_DELAY").value is None
    assert machine.features_of("kvm").source.startswith("log, ")


def test_what_a_whole_log_does_not_say_is_not_so() -> None:
    machine = Machine(dmesg=KVM)
    assert machine.feature("kvm", "PV_TLB_FLUSH") == (False, 'log: no "KVM setup pv remote TLB flush"')
    assert Machine(dmesg="[9] later lines only\n").feature("kvm", "PV_TLB_FLUSH").value is None


def test_steal_time_is_announced_up_to_5_10_only() -> None:
    old = Machine(kernel="Linux version 5.10.0-1", dmesg=KVM)
    assert old.feature("kvm", "STEAL_TIME").value is False
    assert Machine(kernel="Linux version 6.1.0-1", dmesg=KVM).feature("kvm", "STEAL_TIME").value is None


def test_a_log_that_contradicts_the_leaf_wins() -> None:
    cpuid = leaves(b"KVMKVMKVM\0\0\0", 0x40000000, l1=0x2E2)
    machine = Machine(cpuid=cpuid, dmesg=f"{KVM}[0] kvm-guest: PV spinlocks disabled, no host support\n")
    assert machine.feature("kvm", "PV_UNHALT").value is False
    assert machine.feature("kvm", "PV_TLB_FLUSH").value is False


@pytest.mark.parametrize(
    "line",
    [
        "Hyper-V: features 0xae7f, hints 0x60c2c, misc 0xbed7b2",
        "Hyper-V: privilege flags low 0xae7f, high 0x3b8030, hints 0x60c2c, misc 0xbed7b2",
    ],
)
def test_hyper_v_prints_its_words(line: str) -> None:
    machine = Machine(dmesg=f"[0] {line}\n")
    assert machine.features_of("hyperv").value == 0xAE7F
    assert machine.features_of("hyperv-hints").value == 0x60C2C
    assert machine.feature("hyperv-hints", "CLUSTER_IPI_RECOMMENDED").value is True


def test_unknown_words_and_bits() -> None:
    with pytest.raises(OpsError, match="no feature word kvn"):
        Machine().features_of("kvn")
    with pytest.raises(OpsError, match="no bit PV_UNHLT"):
        Machine().feature("kvm", "PV_UNHLT")


def test_signatures_without_words() -> None:
    assert Machine(cpuid=leaves(b"VMwareVMware", 0x40000000)).hypervisor.value == "vmware"
    assert Machine(cpuid=leaves(b"XenVMMXenVMM", 0x40000100)).hypervisor.value == "xen-hvm"
