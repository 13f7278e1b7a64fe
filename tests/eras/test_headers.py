"""asm-offsets, layouts, clobbers and patch functions, as the era's headers and files have them."""

from __future__ import annotations

import pytest

from pvops.eras import era, v2_6_23
from pvops.eras.patching import Inline


def test_the_seeds_asm_offsets_are_relative_to_the_small_structures() -> None:
    e = era("seed")
    assert e.asm_offsets(e.default_config()) == {
        "PARAVIRT_enabled": 8,
        "PARAVIRT_PATCH_pv_cpu_ops": 44,
        "PARAVIRT_PATCH_pv_irq_ops": 164,
        "PV_IRQ_irq_disable": 12,
        "PV_IRQ_irq_enable": 16,
        "PV_CPU_iret": 116,
        "PV_CPU_irq_enable_sysexit": 112,
        "PV_CPU_read_cr0": 12,
    }


def test_the_removed_ones_are_relative_to_the_one_big_structure() -> None:
    e = era("2.6.23")
    config = e.default_config()
    old, new = e.asm_offsets(config), era("seed").asm_offsets(config)
    assert list(old) == [
        "PARAVIRT_enabled",
        "PARAVIRT_irq_disable",
        "PARAVIRT_irq_enable",
        "PARAVIRT_irq_enable_sysexit",
        "PARAVIRT_iret",
        "PARAVIRT_read_cr0",
    ]
    assert old["PARAVIRT_irq_disable"] == new["PARAVIRT_PATCH_pv_irq_ops"] + new["PV_IRQ_irq_disable"]
    assert old["PARAVIRT_iret"] == new["PARAVIRT_PATCH_pv_cpu_ops"] + new["PV_CPU_iret"]


def test_aliases_point_into_the_one_big_structure() -> None:
    assert v2_6_23.aliases(era("2.6.23").default_config())["pv_irq_ops"] == 164


def test_2_6_23_as_released_is_flat_and_counts_its_data_too() -> None:
    config = era("2.6.23").default_config(X86_PAE=True, HIGHPTE=True)
    flat = v2_6_23.released(config)
    assert flat.PARAVIRT_PATCH("paravirt_ops.patch") == 4
    assert flat.size == 4 * (4 + 89)
    assert v2_6_23.released_asm_offsets(config)["PARAVIRT_irq_disable"] == 120


def test_the_refactoring_changes_no_function() -> None:
    """The seed's structures hold, op for op, what the flat one held."""
    flat = v2_6_23.released_native().values
    seed = {op: p for struct in era("seed").native(era("seed").default_config()) for op, p in struct.values.items()}
    assert flat == {op: seed[op] for op in flat}
    assert flat.keys() == seed.keys()


def test_5_10_has_asm_offsets_into_pv_ops_and_6_1_none() -> None:
    e = era("5.10")
    assert e.asm_offsets(e.default_config(64)) == {
        "PV_IRQ_irq_disable": 36 * 8,
        "PV_IRQ_irq_enable": 37 * 8,
        "PV_CPU_iret": 31 * 8,
        "PV_MMU_read_cr2": 46 * 8,
    }
    assert e.asm_offsets(e.default_config(32)) == {}
    assert era("6.1").asm_offsets(era("6.1").default_config(64)) == {}


@pytest.mark.parametrize(
    ("name", "bits", "alt", "site"),
    [("seed", 32, 12, 8), ("2.6.33", 64, 24, 16), ("5.10", 64, 12, 16), ("6.1", 32, 12, 8), ("6.12", 64, 14, None)],
)
def test_sizes_of_the_tables_rows(name: str, bits: int, alt: int, site: int | None) -> None:
    layout = era(name).layout(era(name).default_config(bits))
    assert layout["sizeof_alt_instr"] == alt
    assert layout.get("sizeof_paravirt_patch_site") == site


def test_clobbers() -> None:
    assert era("seed").clobbers(32)["CLBR_ANY"] == 7
    wide, narrow = era("2.6.33").clobbers(64), era("2.6.33").clobbers(32)
    assert (wide["CLBR_ANY"], wide["CLBR_RET_REG"], wide["CLBR_R11"]) == (0x1FF, 1, 0x100)
    assert (narrow["CLBR_ANY"], narrow["CLBR_RET_REG"], narrow["CLBR_CALLEE_SAVE"]) == (0xF, 5, 2)
    assert "CLBR_NONE" not in era("6.1").clobbers(64)
    assert era("6.12").clobbers(64) == {}


def code(name: str, bits: int, **settings: bool) -> dict[str, str]:
    e = era(name)
    function = e.patch_function(e.default_config(bits, **settings))
    assert function is not None
    return {op: rule.code.hex(" ") for op, rule in function.switch.items() if isinstance(rule, Inline)}


def test_native_patch_of_the_seed() -> None:
    assert code("seed", 32)["pv_irq_ops.restore_fl"] == "50 9d"
    assert len(code("seed", 32)) == 11
    assert code("2.6.33", 32) == code("2.6.24", 32) == code("seed", 32)


def test_native_patch_of_2_6_33_on_x86_64() -> None:
    inlined = code("2.6.33", 64)
    assert inlined["pv_cpu_ops.usergs_sysret64"] == "0f 01 f8 48 0f 07"
    assert len(inlined) == 15


def test_native_patch_of_5_10_asks_what_a_lock_op_holds() -> None:
    e = era("5.10")
    function = e.patch_function(e.default_config(64))
    assert function is not None
    unlock = function.switch["pv_lock_ops.queued_spin_unlock"]
    assert unlock == Inline(bytes.fromhex("c60700"), "__raw_callee_save___native_queued_spin_unlock", "bug")
    enable = function.switch["pv_irq_ops.irq_enable"]
    assert isinstance(enable, Inline)
    assert (enable.guard, enable.no_room) == ("", "bug")


def test_native_patch_of_5_10_inlines_what_is_configured() -> None:
    assert code("5.10", 32) == {"pv_lock_ops.queued_spin_unlock": "c6 00 00", "pv_lock_ops.vcpu_is_preempted": "31 c0"}
    assert code("5.10", 64, PARAVIRT_XXL=False, PARAVIRT_SPINLOCKS=False) == {}
    assert len(code("5.10", 64)) == 10


def test_later_kernels_inline_nothing_here() -> None:
    assert code("6.1", 64) == {}
    assert era("6.12").patch_function(era("6.12").default_config(64)) is None
    assert era("7.2").patch_function(era("7.2").default_config(64)) is None


def test_every_inlined_or_jumped_op_exists() -> None:
    for name in ("seed", "2.6.24", "2.6.33", "5.10", "6.1"):
        e = era(name)
        for bits in e.bits:
            config = e.default_config(bits)
            function = e.patch_function(config)
            assert function is not None
            assert all(op in e.template(config) for op in function.switch)
            assert [op.name for op in e.template(config) if op.op.jump] == [
                op.name
                for op in e.template(config)
                if op.field in ("iret", "irq_enable_sysexit", "usergs_sysret32", "usergs_sysret64")
            ]
