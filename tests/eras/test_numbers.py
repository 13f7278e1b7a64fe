"""Templates number the ops as each kernel does, and hold what it holds."""

from __future__ import annotations

import json

import pytest

from kernels.given import given
from pvops.eras import era, eras, releases, version_of
from pvops.eras.declared import Declared
from pvops.errors import OpsError

#: Era of each kernel that was booted.
BOOTED = {
    "5.10.0-30-686-pae": "5.10",
    "5.10.0-46-amd64": "5.10",
    "6.1.0-50-686-pae": "6.1",
    "6.1.0-56-amd64": "6.1",
    "6.12.117+deb12-amd64": "6.12",
    "7.2.13+deb14-amd64": "7.2",
}


#: Names that others rely on.
OLD = ("2.6.23", "2.6.24-rc1", "2.6.24", "2.6.33", "5.10", "6.1", "6.12", "7.2")


def test_eras_are_listed_oldest_first() -> None:
    assert [n for n in eras() if n in OLD] == list(OLD)
    assert [era(name).name for name in eras()] == list(eras())


@pytest.mark.parametrize(
    ("name", "bits", "slots"),
    [
        ("seed", 32, 81),
        ("2.6.24", 32, 84),
        ("2.6.33", 32, 90),
        ("2.6.33", 64, 100),
        ("5.10", 64, 85),
        ("5.10", 32, 15),
        ("6.1", 64, 84),
        ("6.1", 32, 13),
        ("6.12", 64, 83),
        ("6.14", 64, 82),
        ("6.15", 64, 81),
        ("6.18", 64, 81),
        ("7.2", 64, 73),
    ],
)
def test_number_of_slots_by_default(name: str, bits: int, slots: int) -> None:
    assert len(era(name).template(era(name).default_config(bits))) == slots


@pytest.mark.parametrize(
    ("name", "bits", "op", "type"),
    [
        ("seed", 32, "pv_init_ops.patch", 0),
        ("seed", 32, "pv_misc_ops.set_lazy_mode", 5),
        ("seed", 32, "pv_irq_ops.irq_enable", 45),
        ("2.6.24", 32, "pv_irq_ops.irq_enable", 46),
        ("2.6.24", 32, "pv_cpu_ops.lazy_mode.leave", 41),
        ("2.6.33", 32, "pv_cpu_ops.usergs_sysret64", 37),
        ("2.6.33", 64, "pv_lock_ops.spin_unlock", 99),
        ("5.10", 64, "pv_cpu_ops.iret", 31),
        ("5.10", 64, "pv_mmu_ops.lazy_mode.flush", 78),
        ("5.10", 32, "pv_lock_ops.vcpu_is_preempted", 14),
        ("6.1", 64, "pv_irq_ops.irq_enable", 32),
        ("6.1", 32, "pv_mmu_ops.notify_page_enc_status_changed", 7),
        ("6.12", 64, "pv_mmu_ops.enter_mmap", 46),
        ("6.14", 64, "pv_cpu_ops.read_msr", 22),
        ("6.18", 64, "pv_mmu_ops.exit_mmap", 38),
        ("6.18", 64, "pv_lock_ops.wait", 78),
        ("7.2", 64, "pv_mmu_ops.lazy_mode_flush", 71),
    ],
)
def test_number_of_an_op(name: str, bits: int, op: str, type: int) -> None:
    template = era(name).template(era(name).default_config(bits))
    assert template.PARAVIRT_PATCH(op) == type
    assert template[type].name == op
    assert template[type].offset == type * bits // 8


def test_6_1_without_xxl_has_the_same_ops_on_64_bits_as_on_32() -> None:
    e = era("6.1")
    without = e.template(e.default_config(64, PARAVIRT_XXL=False))
    assert [op.name for op in without] == [op.name for op in e.template(e.default_config(32))]
    assert without.size == 13 * 8


def test_6_12_keeps_halt_without_xxl() -> None:
    e = era("6.12")
    assert "pv_irq_ops.safe_halt" in e.template(e.default_config(64, PARAVIRT_XXL=False))
    assert "pv_irq_ops.save_fl" not in e.template(e.default_config(64, PARAVIRT_XXL=False))


def test_5_10_without_xxl_still_has_locks_behind_the_tlb_ops() -> None:
    e = era("5.10")
    template = e.template(e.default_config(64, PARAVIRT_XXL=False))
    assert template.PARAVIRT_PATCH("pv_lock_ops.queued_spin_unlock") == 11


def test_7_2_keeps_its_locks_in_an_array_of_their_own() -> None:
    e = era("7.2")
    config = e.default_config(64)
    assert [(t.symbol, len(t)) for t in e.templates(config)] == [("pv_ops", 73), ("pv_ops_lock", 5)]
    unlock = e.template(config, "pv_ops_lock").op("pv_lock_ops.queued_spin_unlock")
    assert (unlock.type, unlock.c_name) == (1, "pv_ops_lock.queued_spin_unlock")
    assert len(e.templates(e.default_config(64, PARAVIRT_SPINLOCKS=False))) == 1


@pytest.mark.parametrize(
    ("name", "c_name"),
    [
        ("2.6.23", "paravirt_ops.pv_irq_ops.irq_enable"),
        ("seed", "pv_irq_ops.irq_enable"),
        ("2.6.33", "pv_irq_ops.irq_enable"),
        ("6.1", "pv_ops.irq.irq_enable"),
    ],
)
def test_c_spells_the_pointer_by_the_variable_it_is_in(name: str, c_name: str) -> None:
    assert era(name).template(era(name).default_config()).op("pv_irq_ops.irq_enable").c_name == c_name


@pytest.mark.parametrize(("name", "added"), [("seed", 7), ("2.6.24", 7), ("2.6.33", 6)])
def test_pae_adds_ops_in_the_middle_and_shifts_what_stands_behind(name: str, added: int) -> None:
    e = era(name)
    plain, pae = (e.template(e.default_config(32, X86_PAE=on)) for on in (False, True))
    assert len(pae) == len(plain) + added
    assert pae.PARAVIRT_PATCH("pv_mmu_ops.set_pmd") == plain.PARAVIRT_PATCH("pv_mmu_ops.set_pmd")
    last = list(plain)[-1].name
    assert pae.PARAVIRT_PATCH(last) == plain.PARAVIRT_PATCH(last) + added


def test_without_a_local_apic_the_structure_is_empty_and_mmu_moves_up() -> None:
    e = era("seed")
    config = e.default_config(32, X86_LOCAL_APIC=False)
    offsets = e.template(config).struct_offsets
    assert offsets["pv_apic_ops"] == offsets["pv_mmu_ops"] == 192


def test_highpte_adds_one_op() -> None:
    e = era("2.6.33")
    template = e.template(e.default_config(32, HIGHPTE=True))
    assert template.PARAVIRT_PATCH("pv_mmu_ops.lazy_mode.enter") == (
        template.PARAVIRT_PATCH("pv_mmu_ops.kmap_atomic_pte") + 1
    )


def test_a_structure_follows_the_one_before_it() -> None:
    for name in eras():
        for bits in era(name).bits:
            for template in era(name).templates(era(name).default_config(bits)):
                assert [op.offset for op in template] == [i * bits // 8 for i in range(len(template))]


@pytest.mark.kernels
@pytest.mark.parametrize("kernel", [k for k in BOOTED if "686" not in k])
def test_native_pv_ops_are_what_memory_held(kernel: str) -> None:
    boots = sorted(given("boots").glob(f"{kernel}~native-*.json"))
    e = era(BOOTED[kernel])
    config = e.read_config((given("kernels") / f"config-{kernel}").read_text())
    assert boots
    for boot in boots:
        held = json.loads(boot.read_text())
        for template in e.templates(config):
            slots = held[template.symbol]["slots"][: len(template)]
            assert list(e.patch_template(config, symbol=template.symbol).pointers().values()) == slots, boot.name


@pytest.mark.kernels
@pytest.mark.parametrize(("kernel", "slots"), [("5.10.0-30-686-pae", 15), ("6.1.0-50-686-pae", 13)])
def test_debian_i386_has_few_slots(kernel: str, slots: int) -> None:
    e = era(BOOTED[kernel])
    config = e.read_config((given("kernels") / f"config-{kernel}").read_text())
    assert config.bits == 32
    assert len(e.template(config)) == slots


@pytest.mark.parametrize("name", ["5.10", "6.1"])
def test_native_pv_ops_on_i386(name: str) -> None:
    e = era(name)
    pointers = e.patch_template(e.default_config(32)).pointers()
    tlb = ["flush_tlb_local", "flush_tlb_global", "flush_tlb_one_user"]
    assert list(pointers.values()) == [
        *(["native_patch", "native_sched_clock", "native_steal_clock"] if name == "5.10" else []),
        "native_io_delay",
        *(f"native_{function}" for function in tlb),
        "native_flush_tlb_others" if name == "5.10" else "native_flush_tlb_multi",
        "tlb_remove_page",
        "_paravirt_nop",
        *(["_paravirt_nop"] if name == "6.1" else []),
        "native_queued_spin_lock_slowpath",
        "__raw_callee_save___native_queued_spin_unlock",
        "_paravirt_nop",
        "_paravirt_nop",
        "__raw_callee_save___native_vcpu_is_preempted",
    ]


def test_a_number_without_a_name_is_that_of_its_release() -> None:
    """``INDIRECT_THUNK_ITS``, which /proc/cpuinfo does not print, moved as others came before it."""
    places = {}
    for release in ("6.12", "6.15", "6.16", "6.17", "6.18", "7.0"):
        number = releases.nearest(version_of(release)).features["INDIRECT_THUNK_ITS"]
        places[release] = divmod(number, 32)
    assert places == {
        "6.12": (21, 6),
        "6.15": (21, 9),
        **dict.fromkeys(("6.16", "6.17", "6.18", "7.0"), (21, 10)),
    }


@pytest.mark.parametrize(
    ("release", "names"),
    [
        ("6.18", "SYSENTER32"),
        ("6.19.14", "SYSENTER32"),
        ("7.0", "SYSFAST32"),
        ("7.1.13", "SYSFAST32"),
        ("7.3", "SYSFAST32"),
    ],
)
def test_a_number_goes_by_another_name_where_its_feature_was_replaced(release: str, names: str) -> None:
    """f49ecf5e110a, 7.0: a fast system call of either kind. Whether the one or the other is set hangs on the CPU."""
    features = releases.nearest(version_of(release)).features
    assert [name for name, number in features.items() if number == 3 * 32 + 15] == [names]
    assert features.get("SGX_EUPDATESVN") == (None if release == "6.18" else 21 * 32 + 17)


def test_numbers_of_a_release_are_what_differs_from_another() -> None:
    older = Declared.of("1.0", ncapints=2, nbugints=1, words={0: "FPU:0 VME:1", 1: "NX:20"}, bugs="F00F:0")
    newer = older.then("1.1", ncapints=3, nbugints=1, words={0: "-NX PSE:3", 2: "VME:5"}, bugs="-F00F FDIV:1")
    assert newer == Declared.of("1.1", ncapints=3, nbugints=1, words={0: "FPU:0 PSE:3", 2: "VME:5"}, bugs="FDIV:1")
    with pytest.raises(OpsError, match="there was no NX"):
        newer.then("1.2", ncapints=3, nbugints=1, words={1: "-NX"})


def test_no_two_features_of_a_release_have_one_number() -> None:
    for release in releases.all_releases():
        for numbers, words in ((release.features, release.ncapints), (release.bugs, release.nbugints)):
            assert len(set(numbers.values())) == len(numbers), release.release
            assert all(number < words * 32 for number in numbers.values()), release.release
