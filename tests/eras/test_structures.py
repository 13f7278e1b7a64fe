"""Structures read like C, and what C's compiler would refuse is an error when the table is made."""

from __future__ import annotations

import pytest

from pvops.eras import doc, era
from pvops.eras import v2_6_24_rc1 as seed
from pvops.eras.records import InfoStruct, Member, Record
from pvops.eras.structs import Config, Op, OpsStruct, ifdef
from pvops.eras.template import Template
from pvops.errors import OpsError


class pv_lazy_ops(OpsStruct):
    config = "BATCH"

    enter = Op()
    leave = Op(doc="done")


class pv_some_ops(OpsStruct):
    first = Op()

    with ifdef("A|B"):
        second = Op()

        with ifdef("C"):
            third = Op(config="!D")

    lazy_mode = pv_lazy_ops
    last = Op()


def names(config: Config) -> list[str]:
    return [op.field for op in Template((pv_some_ops,), config)]


def test_ifdef_blocks_nest() -> None:
    assert names(Config()) == ["first", "last"]
    assert names(Config("B")) == ["first", "second", "last"]
    assert names(Config("A", "C")) == ["first", "second", "third", "last"]
    assert names(Config("A", "C", "D")) == ["first", "second", "last"]
    assert names(Config("C")) == ["first", "last"]


def test_a_nested_structure_brings_its_own_condition() -> None:
    assert names(Config("BATCH")) == ["first", "lazy_mode.enter", "lazy_mode.leave", "last"]
    assert pv_some_ops.ops["lazy_mode.leave"].doc == "done"


def test_a_structure_that_grew_is_a_subclass() -> None:
    class pv_more_ops(pv_some_ops):
        extra = Op()

    assert list(pv_more_ops.ops)[-2:] == ["last", "extra"]
    assert "extra" not in pv_some_ops.ops


def filled() -> pv_some_ops:
    return pv_some_ops(first="f", second=None, third="t", lazy_mode={"enter": "e", "leave": "l"}, last="x")


def test_a_misspelt_op_is_refused_with_what_was_probably_meant() -> None:
    with pytest.raises(OpsError, match=r"struct pv_irq_ops has no op irq_enabel \(did you mean irq_enable\?\)"):
        seed.pv_irq_ops(irq_enabel="native_irq_enable")


def test_a_missing_op_is_refused() -> None:
    with pytest.raises(OpsError, match="struct pv_misc_ops is filled without set_lazy_mode"):
        seed.pv_misc_ops()


def test_an_unknown_op_is_refused_in_a_nested_structure_too() -> None:
    with pytest.raises(OpsError, match=r"no op lazy_mode\.flush"):
        filled().replace(lazy_mode={"flush": "f"})


def test_reading_or_replacing_an_op_that_does_not_exist_is_refused() -> None:
    struct = filled()
    with pytest.raises(OpsError, match="has no op frist"):
        struct["frist"]
    with pytest.raises(OpsError, match="has no op frist"):
        struct.replace(frist="f")


def test_replace_changes_a_copy() -> None:
    struct = filled()
    changed = struct.replace(first="g", lazy_mode={"leave": None})
    assert (changed["first"], changed["lazy_mode.enter"], changed["lazy_mode.leave"]) == ("g", "e", None)
    assert (struct["first"], struct["lazy_mode.leave"]) == ("f", "l")


def test_an_op_that_is_configured_out_is_refused_with_the_condition() -> None:
    e = era("seed")
    template = e.template(e.default_config(32))
    with pytest.raises(OpsError, match=r"no op pv_mmu_ops\.set_pud in struct .* of 2.6.24-rc1: configured out"):
        template.PARAVIRT_PATCH("pv_mmu_ops.set_pud")


def test_an_op_of_another_era_is_refused() -> None:
    e = era("6.1")
    with pytest.raises(OpsError, match=r"no op pv_irq_ops\.restore_fl in struct paravirt_patch_template of 6\.1"):
        e.template(e.default_config(64)).PARAVIRT_PATCH("pv_irq_ops.restore_fl")


@pytest.mark.parametrize("type", [-1, 84, 255])
def test_a_number_outside_the_template_is_refused(type: int) -> None:
    e = era("6.1")
    with pytest.raises(OpsError, match=f"type {type} is outside"):
        e.template(e.default_config(64))[type]


def test_an_unknown_era_is_refused_with_the_eras_there_are() -> None:
    with pytest.raises(OpsError, match=r"no era xyz; there are 2\.6\.20, .*, 2\.6\.24, .*, 7\.2"):
        era("xyz")


def test_pv_info_is_checked_as_ops_are() -> None:
    class pv_info(InfoStruct):
        name = Member("const char *", 0)

    with pytest.raises(OpsError, match="has no member nmae"):
        pv_info(nmae="x")
    with pytest.raises(OpsError, match="filled without name"):
        pv_info()


def test_records_are_laid_out_as_c_does() -> None:
    record = Record("r", (("byte", 1), ("pointer", 0), ("half", 2)))
    assert record.layout(8) == {"sizeof_r": 24, "r_byte": 0, "r_pointer": 8, "r_half": 16}
    assert record.layout(4) == {"sizeof_r": 12, "r_byte": 0, "r_pointer": 4, "r_half": 8}
    assert Record("r", record.fields, packed=True).size(8) == 11


@pytest.mark.parametrize("name", ["seed", "2.6.24", "2.6.33", "5.10", "6.1", "6.12", "7.2"])
def test_every_op_says_what_it_does(name: str) -> None:
    e = era(name)
    for struct in e.structs:
        for op in struct.ops:
            assert doc(e, f"{struct.__name__}.{op}"), f"{struct.__name__}.{op}"
