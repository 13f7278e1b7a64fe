"""Which structures a module may see: the seed exports part by part, and chooses a licence for each."""

from __future__ import annotations

import pytest

from pvops.backends import lguest, vmi, xen_2007
from pvops.eras import era, eras, v2_6_23
from pvops.errors import OpsError


def test_2_6_23_had_to_export_everything_to_everybody() -> None:
    assert v2_6_23.paravirt_ops.export == "EXPORT_SYMBOL"


def test_the_seed_exports_part_by_part() -> None:
    assert era("seed").exports == {
        "pv_time_ops": "EXPORT_SYMBOL_GPL",
        "pv_cpu_ops": "EXPORT_SYMBOL_GPL",
        "pv_mmu_ops": "EXPORT_SYMBOL_GPL",
        "pv_apic_ops": "EXPORT_SYMBOL_GPL",
        "pv_info": "EXPORT_SYMBOL_GPL",
        "pv_irq_ops": "EXPORT_SYMBOL",
    }


def test_a_proprietary_module_may_switch_interrupts_but_not_page_tables() -> None:
    e = era("seed")
    assert e.symbol_for_module("pv_irq_ops", license="Proprietary") == "EXPORT_SYMBOL"
    with pytest.raises(
        OpsError, match=r"^nvidia: Unknown symbol pv_mmu_ops: GPL only, and the licence is Proprietary$"
    ):
        e.symbol_for_module("pv_mmu_ops", license="Proprietary", module="nvidia")
    assert era("2.6.24").symbol_for_module("pv_mmu_ops", license="Proprietary") == "EXPORT_SYMBOL"


@pytest.mark.parametrize("license", ["GPL", "GPL v2", "Dual BSD/GPL"])
def test_gpl_compatible_modules_see_gpl_symbols(license: str) -> None:
    assert era("seed").symbol_for_module("pv_mmu_ops", license=license) == "EXPORT_SYMBOL_GPL"


@pytest.mark.parametrize("symbol", ["pv_init_ops", "pv_misc_ops", "paravirt_ops"])
def test_no_module_sees_what_is_not_exported(symbol: str) -> None:
    with pytest.raises(OpsError, match=f"module: Unknown symbol {symbol}: not exported"):
        era("seed").symbol_for_module(symbol, license="GPL")


def test_one_structure_is_one_symbol_again_since_4_20() -> None:
    assert era("5.10").exports == era("6.12").exports == {"pv_ops": "EXPORT_SYMBOL", "pv_info": "EXPORT_SYMBOL_GPL"}
    assert era("7.2").exports["pv_ops_lock"] == "EXPORT_SYMBOL"
    with pytest.raises(OpsError, match=r"Unknown symbol pv_info \(err -2\): GPL only"):
        era("6.1").symbol_for_module("pv_info", license="Proprietary")


@pytest.mark.parametrize("name", eras()[eras().index("2.6.24-rc1") :])
def test_pv_info_is_exported_gpl(name: str) -> None:
    assert era(name).symbol_for_module("pv_info", license="GPL") == "EXPORT_SYMBOL_GPL"


def test_lg_ko_refuses_to_run_lguest_in_lguest() -> None:
    e = era("seed")
    lguest.load_lg(e, e.info)
    with pytest.raises(OpsError, match=r"^lguest is afraid of lguest$"):
        lguest.load_lg(e, lguest.info(e))
    with pytest.raises(OpsError, match=r"^lguest is afraid of Xen$"):
        lguest.load_lg(e, xen_2007.info(e, e.default_config()))
    with pytest.raises(OpsError, match=r"^lguest is afraid of vmi$"):
        lguest.load_lg(e, vmi.info(e))


def test_before_the_post_lg_ko_could_not_have_asked_pv_info() -> None:
    e = era("2.6.23")
    with pytest.raises(OpsError, match="lg: Unknown symbol pv_info: not exported"):
        lguest.load_lg(e, e.info)
