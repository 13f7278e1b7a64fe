"""Configuration symbols: which there are, what depends on what, and each class of ops in or out by itself."""

from __future__ import annotations

import pytest

from pvops.eras import era, eras
from pvops.eras.structs import Config
from pvops.errors import OpsError


def test_an_unknown_symbol_is_refused() -> None:
    with pytest.raises(
        OpsError, match=r"CONFIG_X86_PEA means nothing to the ops of 2.6.24-rc1 \(did you mean X86_PAE\?\)"
    ):
        era("seed").default_config(32, X86_PEA=True)


@pytest.mark.parametrize(
    ("name", "bits", "settings", "why"),
    [
        ("2.6.33", 64, {"X86_PAE": True}, "CONFIG_X86_PAE depends on !X86_64"),
        ("2.6.33", 32, {"SMP": False, "PARAVIRT_SPINLOCKS": True}, "CONFIG_PARAVIRT_SPINLOCKS depends on SMP"),
        ("6.1", 32, {"PARAVIRT_XXL": True}, "CONFIG_PARAVIRT_XXL depends on X86_64"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(name: str, bits: int, settings: dict[str, bool], why: str) -> None:
    with pytest.raises(OpsError, match=why):
        era(name).default_config(bits, **settings)


def test_the_2007_eras_are_i386_only() -> None:
    with pytest.raises(OpsError, match=r"2.6.24 is a 32-bit era, not a 64-bit one"):
        era("2.6.24").default_config(64)


def test_a_config_file_sets_what_matters_and_no_more() -> None:
    lines = ["CONFIG_X86_64=y", "CONFIG_SMP=y", "CONFIG_PARAVIRT_XXL=y", "CONFIG_EXT4_FS=m"]
    lines += ["# CONFIG_PARAVIRT_SPINLOCKS is not set"]
    assert era("6.1").read_config("\n".join(lines)) == Config("X86_64", "SMP", "PARAVIRT_XXL")


def test_a_config_file_of_its_time_knows_no_switch_for_a_class() -> None:
    e = era("2.6.33")
    config = e.read_config("CONFIG_X86_LOCAL_APIC=y\nCONFIG_SMP=y\n")
    assert len(e.template(config)) == 90


def test_options_say_what_they_change() -> None:
    for name in eras():
        for option in era(name).configs:
            assert option.meaning, (name, option.symbol)


def test_each_class_of_ops_can_be_configured_out() -> None:
    for name in ("seed", "2.6.24", "2.6.33"):
        e = era(name)
        whole = e.template(e.default_config())
        switches = [option.symbol for option in e.configs if not option.released]
        assert switches
        for symbol in switches:
            config = e.default_config(**{symbol: False})
            template = e.template(config)
            struct = f"pv_{symbol.removeprefix('PARAVIRT_').lower()}_ops"
            kept = [op.name for op in whole if op.struct != struct]
            assert [op.name for op in template] == kept
            assert [op.type for op in template] == list(range(len(kept)))
            assert list(e.patch_template(config).pointers()) == kept


def test_asm_offsets_of_a_class_configured_out_are_gone() -> None:
    e = era("seed")
    names = e.asm_offsets(e.default_config(PARAVIRT_IRQ=False))
    assert "PV_IRQ_irq_disable" not in names
    assert "PARAVIRT_PATCH_pv_irq_ops" not in names
    assert names["PV_CPU_iret"] == 116


def test_released_kernels_could_switch_locks_alone_and_later_the_bulk() -> None:
    assert {"PARAVIRT_SPINLOCKS"} == {o.symbol for o in era("2.6.33").configs if o.released and "PARAVIRT" in o.symbol}
    assert {"PARAVIRT_SPINLOCKS", "PARAVIRT_XXL"} == {o.symbol for o in era("6.1").configs if "PARAVIRT" in o.symbol}
