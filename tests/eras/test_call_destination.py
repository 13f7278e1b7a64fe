"""From a number back to what the separate structures hold."""

from __future__ import annotations

import pytest

import pvops
from pvops import sample
from pvops.eras import era, v2_6_24
from pvops.eras import v2_6_24_rc1 as seed
from pvops.eras.template import PatchTemplate
from pvops.errors import OpsError


def test_the_answer_is_what_the_structures_given_hold() -> None:
    e = era("seed")
    config = e.default_config()
    enable = e.template(config).PARAVIRT_PATCH("pv_irq_ops.irq_enable")
    assert e.patch_template(config).get_call_destination(enable) == "native_irq_enable"
    structs = [
        s.replace(irq_enable="lguest_irq_enable") if isinstance(s, seed.pv_irq_ops) else s for s in e.native(config)
    ]
    assert e.patch_template(config, *structs).get_call_destination(enable) == "lguest_irq_enable"
    assert e.patch_template(config).get_call_destination(enable) == "native_irq_enable"


def test_what_is_asked_again_is_the_same() -> None:
    e = era("6.12")
    config = e.default_config(64)
    assert e.native(config) is e.native(config)
    assert e.template(config) is e.template(config)


def test_a_missing_structure_is_refused() -> None:
    e = era("seed")
    config = e.default_config()
    with pytest.raises(OpsError, match="filled without pv_mmu_ops"):
        e.patch_template(config, *e.native(config)[:-1])


def test_a_structure_of_another_era_is_refused() -> None:
    e = era("2.6.24")
    config = e.default_config()
    *others, mmu = e.native(config)
    assert isinstance(mmu, v2_6_24.pv_mmu_ops)
    old = era("seed").native(config)[-1]
    with pytest.raises(OpsError, match=r"pv_mmu_ops is not that of struct paravirt_patch_template of 2.6.24"):
        e.patch_template(config, *others, old)


def test_a_structure_given_twice_is_refused() -> None:
    e = era("seed")
    config = e.default_config()
    with pytest.raises(OpsError, match="pv_init_ops is given twice"):
        PatchTemplate(e.template(config), e.native(config)[0], *e.native(config))


def test_2_6_33_reads_null_for_locks_unless_configured() -> None:
    e = era("2.6.33")
    for on, unlock in ((False, None), (True, "__ticket_spin_unlock")):
        config = e.default_config(64, PARAVIRT_SPINLOCKS=on)
        patch = e.patch_template(config)
        assert patch.get_call_destination(99) == unlock
        assert patch.structs["pv_lock_ops"]["spin_unlock"] == "__ticket_spin_unlock"
        assert len(patch.template) == 100


@pytest.mark.parametrize("name", ["5.10", "6.1", "6.12"])
def test_later_kernels_keep_the_lock_numbers_too_and_read_null(name: str) -> None:
    e = era(name)
    with_, without = (e.default_config(64, PARAVIRT_SPINLOCKS=on) for on in (True, False))
    assert [op.name for op in e.template(with_)] == [op.name for op in e.template(without)]
    pointers = e.patch_template(without).pointers()
    assert {pointer for op, pointer in pointers.items() if op.startswith("pv_lock_ops")} == {None}


def test_7_2_answers_for_each_array() -> None:
    e = era("7.2")
    config = e.default_config(64)
    assert e.patch_template(config, symbol="pv_ops_lock").get_call_destination(3) == "nop_func"
    assert e.patch_template(config).get_call_destination(3) == "native_write_cr0"


def test_x86_64_without_32_bit_programs_has_no_way_back_to_them() -> None:
    e = era("2.6.33")
    pointers = e.patch_template(e.default_config(64, IA32_EMULATION=False)).pointers()
    assert pointers["pv_cpu_ops.irq_enable_sysexit"] is None
    assert pointers["pv_cpu_ops.usergs_sysret32"] is None
    assert pointers["pv_cpu_ops.usergs_sysret64"] == "native_usergs_sysret64"


@pytest.mark.parametrize("era", ["2.6.27", "2.6.32-el6", "2.6.33", "2.6.38", "3.10", "4.10", "4.18"])
def test_an_image_without_pv_spinlocks_has_no_variable_of_their_ops(era: str) -> None:
    """pv_lock_ops is in the template always; paravirt-spinlocks.c, which has the variable, is built for its option."""
    ops = [op for op in sample.native_ops(era, 64) if not op.name.startswith("pv_lock_ops.")]
    kernel = pvops.open(sample.build(era, 64, ops=ops).elf)
    assert kernel.address_of("pv_lock_ops") is None
    assert kernel.address_of("pv_mmu_ops") is not None
    assert kernel.ops.era is not None
    assert kernel.ops.config is not None
    assert "PARAVIRT_SPINLOCKS" not in kernel.ops.config.symbols
    assert [op for op in kernel.ops.names if not op.startswith("pv_lock_ops.")] == [op.name for op in ops]
