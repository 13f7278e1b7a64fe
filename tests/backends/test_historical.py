"""lguest, VMI and Xen as they were: what they put into the ops, and how they patch."""

from __future__ import annotations

import pytest

from pvops.backends import lguest, vmi, xen_2007
from pvops.eras import era
from pvops.eras.patching import Inline, Rom
from pvops.eras.structs import Config, OpsStruct, Pointer
from pvops.errors import OpsError


def held(structs: tuple[OpsStruct, ...], op: str) -> Pointer:
    struct, _, field = op.partition(".")
    return next(s for s in structs if type(s).__name__ == struct)[field]


def config(name: str, bits: int = 32, **settings: bool) -> Config:
    return era(name).default_config(bits, **settings)


def test_lguest_overrides_some_and_keeps_the_rest() -> None:
    structs = lguest.structs(era("2.6.24"), config("2.6.24"))
    assert held(structs, "pv_mmu_ops.lazy_mode.leave") == "lguest_leave_lazy_mode"
    assert held(structs, "pv_irq_ops.halt") == "native_halt"


def test_lguest_fills_every_op_of_its_table_somewhere() -> None:
    """A misspelt op in the table would be in no era."""
    for name, table in (("", lguest.LGUEST_INIT), ("2.6.33", lguest.LGUEST_INIT_2_6_33)):
        for struct, ops in table.items():
            known = {op for n in lguest.ERAS if n.startswith(name) for s in era(n).structs for op in s.ops}
            assert set(ops) <= known, struct


@pytest.mark.parametrize(
    ("name", "bits", "settings", "why"),
    [
        ("2.6.24", 32, {"X86_PAE": True}, "lguest guests of 2.6.24 need CONFIG_X86_PAE off"),
        ("2.6.33", 64, {}, "lguest guests are i386"),
        ("5.10", 64, {}, "lguest has no ops for 5.10"),
    ],
)
def test_lguest_refuses_where_it_does_not_run(name: str, bits: int, settings: dict[str, bool], why: str) -> None:
    with pytest.raises(OpsError, match=why):
        lguest.structs(era(name), config(name, bits, **settings))


def test_lguest_patch_inlines_moves_and_falls_back_to_the_default_rules() -> None:
    e = era("seed")
    function = lguest.patch_function(e, lguest.code(e, 0xC0563280))
    assert function.name == "lguest_patch"
    assert function.otherwise == "default"
    assert function.switch["pv_irq_ops.save_fl"] == Inline(bytes.fromhex("a1803256c0"), no_room="default")
    assert set(lguest.code(era("2.6.33"), 0)) == {"pv_irq_ops.save_fl", "pv_irq_ops.irq_disable"}


def test_xen_placement_replaces_the_hot_ops() -> None:
    for name, iret in (("2.6.24", "xen_iret_direct"), ("2.6.33", "xen_iret")):
        structs = xen_2007.structs(era(name), config(name, X86_PAE=True), placement=True)
        assert held(structs, "pv_irq_ops.save_fl") == "xen_save_fl_direct"
        assert held(structs, "pv_mmu_ops.read_cr2") == "xen_read_cr2_direct"
        assert held(structs, "pv_cpu_ops.iret") == iret


def test_xen_has_no_sysexit_and_no_set_pte_yet_in_2_6_24() -> None:
    structs = xen_2007.structs(era("2.6.24"), config("2.6.24"))
    assert held(structs, "pv_cpu_ops.irq_enable_sysexit") is None
    assert held(structs, "pv_mmu_ops.set_pte") is None


def test_xen_refuses_where_it_does_not_run() -> None:
    with pytest.raises(OpsError, match="need CONFIG_X86_PAE"):
        xen_2007.structs(era("2.6.33"), config("2.6.33"))
    with pytest.raises(OpsError, match=r"has no ops for 6.1"):
        xen_2007.structs(era("6.1"), config("6.1", 64))


def test_xen_patch_takes_code_as_it_was_linked() -> None:
    e = era("2.6.24")
    code = {"pv_irq_ops.irq_enable": bytes(21), "pv_irq_ops.irq_disable": bytes(7)}
    function = xen_2007.patch_function(e, code, {"pv_irq_ops.irq_enable": 17})
    assert function.switch["pv_irq_ops.irq_enable"] == Inline(bytes(21), "", "default", 17, "check_events")
    assert function.switch["pv_irq_ops.irq_disable"] == Inline(bytes(7), "", "default")
    assert xen_2007.patch_function(e).switch == {}
    with pytest.raises(OpsError, match=r"xen_patch inlines no pv_mmu_ops\.read_cr2"):
        xen_2007.patch_function(e, {"pv_mmu_ops.read_cr2": b""})


def test_xen_info() -> None:
    assert xen_2007.info(era("2.6.33"), config("2.6.33", 64)).values == {
        "kernel_rpl": 0,
        "shared_kernel_pmd": 0,
        "paravirt_enabled": 1,
        "name": "Xen",
    }


def test_vmi_asks_the_rom_by_call_number() -> None:
    function = vmi.patch_function(era("seed"))
    assert function.otherwise == "ignore"
    assert function.switch == {
        "pv_irq_ops.irq_enable": Rom(29),
        "pv_irq_ops.irq_disable": Rom(30),
        "pv_irq_ops.save_fl": Rom(31),
        "pv_irq_ops.restore_fl": Rom(32),
        "pv_cpu_ops.iret": Rom(33),
        "pv_cpu_ops.irq_enable_sysexit": Rom(34),
    }


def test_vmi_poisons_what_must_be_patched() -> None:
    structs = vmi.structs(era("2.6.24"), config("2.6.24"))
    assert held(structs, "pv_cpu_ops.iret") == "0xbadbab0"
    assert held(structs, "pv_cpu_ops.irq_enable_sysexit") == "0xfeedbab0"


def test_vmi_takes_from_the_rom_what_it_knows() -> None:
    structs = vmi.structs(
        era("2.6.24"), config("2.6.24"), {"CLTS": "vrom:CLTS", "IODelay": "nop", "SetLazyMode": "nop"}
    )
    assert held(structs, "pv_cpu_ops.clts") == "vrom:CLTS"
    assert held(structs, "pv_cpu_ops.io_delay") == "vmi_nop"
    assert held(structs, "pv_cpu_ops.lazy_mode.enter") == "_paravirt_nop"
    assert held(structs, "pv_cpu_ops.read_cr0") == "native_read_cr0"
    assert held(structs, "pv_init_ops.patch") == "vmi_patch"


def test_vmi_2_6_33_wraps_descriptor_writes() -> None:
    for name, write in (("2.6.24", "vrom:WriteGDTEntry"), ("2.6.33", "vmi_write_gdt_entry")):
        assert held(vmi.structs(era(name), config(name)), "pv_cpu_ops.write_gdt_entry") == write


def test_vmi_page_tables_are_linuxs_own_around_the_roms() -> None:
    for pae, call in ((False, "SetPxE"), (True, "SetPxELong")):
        structs = vmi.structs(era("2.6.24"), config("2.6.24", X86_PAE=pae), {call: "vrom"})
        assert held(structs, "pv_mmu_ops.set_pte") == "vmi_set_pte"


def test_vmi_refuses_where_it_does_not_run() -> None:
    with pytest.raises(OpsError, match="vmi guests are i386"):
        vmi.structs(era("2.6.33"), config("2.6.33", 64))
    with pytest.raises(OpsError, match="VMI has no call CLST"):
        vmi.structs(era("seed"), config("seed"), {"CLST": "x"})
