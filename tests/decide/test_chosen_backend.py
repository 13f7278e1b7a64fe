"""Which backend is planned by, where the image names nothing; and what native_patch() leaves to the CPU."""

from __future__ import annotations

import pytest

import pvops
from image.nameless import without_symbols
from pvops import eras, sample
from pvops.decide.backend import backend_for, chosen
from pvops.decide.slots import inlining
from pvops.errors import OpsError


@pytest.mark.parametrize("era", ["5.10", "6.1"])
def test_what_a_guest_puts_into_ops_is_not_made_up(era: str) -> None:
    built = sample.build(era, 64).elf
    named, bare = pvops.open(built), without_symbols(built)
    assert not bare.image.symbol_count()
    guest = pvops.Machine(name="guest", hypervisor="kvm", dmesg="Booting paravirtualized kernel on KVM\n")
    assert chosen(named, guest).name == "kvm"
    with pytest.raises(OpsError, match=r'log: "paravirtualized kernel on KVM", and the image of .* names no function'):
        chosen(bare, guest)
    assert backend_for(bare, guest).name == "native", "what verify starts from, and then infers"


@pytest.mark.parametrize(
    "machine",
    [
        None,
        pvops.Machine(name="bare hardware", hypervisor="none"),
        pvops.Machine(name="no guest", hypervisor="kvm", dmesg="Booting paravirtualized kernel on bare hardware\n"),
    ],
    ids=["none given", "none below", "not taken for one"],
)
def test_who_is_no_guest_needs_no_names(machine: pvops.Machine | None) -> None:
    assert chosen(without_symbols(sample.build("6.1", 64).elf), machine).name == "native"


def test_a_hypervisor_without_a_log_may_be_below_a_guest() -> None:
    bare = without_symbols(sample.build("6.1", 64).elf)
    with pytest.raises(OpsError, match="names no function"):
        chosen(bare, pvops.Machine(name="guest", hypervisor="kvm"))


def test_rhel_7_flushes_a_page_inline_only_without_pcid() -> None:
    """native_patch() of 3.10.0-1160.el7."""
    kernel = pvops.open(sample.build("3.10-el7", 64).elf)
    invlpg = bytes.fromhex("0f 01 3f")
    flags = frozenset({"fpu", "nopl"})
    without = kernel.plan("native", machine=pvops.Machine(name="old", flags=flags)).apply()
    with_it = kernel.plan("native", machine=pvops.Machine(name="new", flags=flags | {"pcid"})).apply()
    assert without.count(invlpg) > with_it.count(invlpg)


@pytest.mark.parametrize("inlined", [True, False])
def test_what_native_patch_inlines_is_what_the_image_has_code_for(inlined: bool) -> None:
    """Stable kernels with KAISER, 4.1.52 and 4.9.115, have no ``start_pv_mmu_ops_flush_tlb_single``."""
    era = eras.era("4.1")
    function = era.patch_function(era.usual_config(64))
    assert function is not None
    labels = [f"start_{op.replace('.', '_')}" for op in function.switch if inlined or "flush_tlb_single" not in op]
    kernel = pvops.open(sample.build("4.1", 64, functions=labels, tables=True).elf)
    text = kernel.plan("native").apply()
    assert (bytes.fromhex("0f 01 3f") in text) == inlined
    assert bytes.fromhex("0f 22 df") in text, "write_cr3 is"
    assert kernel.verify(text)


def test_rhel_8_has_the_ops_of_4_19_and_what_guests_of_4_20_put_there() -> None:
    functions = sample.backend_functions("4.20", ("native", "kvm", "hyperv"))
    elf = sample.build("4.19", 64, functions=functions).elf.replace(b"4.19.0-pvops-sample", b"4.18.0-147.el8-test")
    kernel = pvops.open(elf)
    assert (kernel.rules.era, kernel.ops.era and kernel.ops.era.name) == ("4.18", "4.19")
    held = {op: slot.symbol for op, slot in kernel.plan("kvm").slots.items()}
    assert held["pv_mmu_ops.flush_tlb_others"] == "kvm_flush_tlb_others"
    assert held["pv_mmu_ops.tlb_remove_table"] == "tlb_remove_table"
    held = {op: slot.symbol for op, slot in kernel.plan("hyperv").slots.items()}
    assert held["pv_mmu_ops.flush_tlb_others"] == "hyperv_flush_tlb_others"
    assert held["pv_lock_ops.wait"] == "hv_qlock_wait"


@pytest.mark.parametrize("cpus", [1, 2])
def test_rhel_7_has_ops_of_both_locks_and_functions_of_one(cpus: int) -> None:
    every = sample.backend_functions("3.10-el7", ("native", "kvm", "xen"))
    kernel = pvops.open(sample.build("3.10-el7", 64, functions=[f for f in every if "_lock_spinning" not in f]).elf)
    guest = pvops.Machine(name="guest", hypervisor="kvm", possible_cpus=cpus)
    held = {op: slot.symbol for op, slot in kernel.plan("kvm", machine=guest).slots.items()}
    assert held["pv_lock_ops.wait"] == ("kvm_wait" if cpus > 1 else "_paravirt_nop")
    assert held["pv_lock_ops.lock_spinning"] == "_paravirt_nop"
    assert {op: slot.symbol for op, slot in kernel.plan("xen").slots.items()}["pv_lock_ops.wait"] == "xen_qlock_wait"


def test_xens_flush_of_one_address_has_its_older_name_up_to_4_15() -> None:
    """The op was renamed before its function was (1299ef1d8870)."""
    functions = sample.backend_functions("4.14", ("native", "xen"))
    older = [f.replace("xen_flush_tlb_one_user", "xen_flush_tlb_single") for f in functions]
    kernel = pvops.open(sample.build("4.14", 64, functions=older).elf)
    assert kernel.plan("xen").slots["pv_mmu_ops.flush_tlb_one_user"].symbol == "xen_flush_tlb_single"


@pytest.mark.parametrize("label", ["start_pv_cpu_ops_iret", ""])
def test_iret_is_inlined_by_releases_of_3_15_that_have_its_code(label: str) -> None:
    """3.15.8 has the label, 3.16 has not (espfix64, 3891a04aafd6); nor has an image without symbols of labels."""
    era = eras.era("3.15")
    function = era.patch_function(era.usual_config(64))
    labels = [f"start_{op.replace('.', '_')}" for op in function.switch] if function else []
    kernel = pvops.open(sample.build("3.15", 64, functions=[*labels, label] if label else []).elf)
    found = inlining(kernel, function)
    assert found is not None
    assert ("pv_cpu_ops.iret" in found.switch) == bool(label)
    assert "pv_irq_ops.irq_disable" in found.switch
