"""Rules of single keys, on machines made by hand."""

from __future__ import annotations

from typing import cast

import pytest

from pvops.decide.answers import Facts
from pvops.decide.key_conditions import KeyQuery
from pvops.decide.key_rules import RULES, by_place
from pvops.decide.prediction import FeatureWords
from pvops.machine.machine import Machine

SHORT = "[    0.1] Booting paravirtualized kernel on bare hardware\n[    0.5] Run /init as init process\n"
LONG = SHORT + "[    9.0] random: crng init done\n"


def state(key: str, version: tuple[int, int], flags: str, log: str) -> bool | None:
    """What the rule of a key says."""
    machine = Machine(flags=frozenset(flags.split()), dmesg=log)
    query = KeyQuery(Facts(machine, version, 64), cast(FeatureWords, None))
    answer = RULES[key].rule(query)
    return None if answer is None else answer.value


@pytest.mark.parametrize(
    ("version", "flags", "log", "on"),
    [
        ((5, 4), "fpu rdrand", SHORT, False),
        ((5, 4), "fpu", SHORT, True),
        ((5, 4), "fpu", LONG, False),
        ((4, 18), "fpu rdrand", SHORT, True),
        ((4, 18), "fpu rdrand", LONG, False),
    ],
)
def test_pointers_are_hashed_as_soon_as_there_are_random_bytes(
    version: tuple[int, int], flags: str, log: str, on: bool
) -> None:
    assert state("not_filled_random_ptr_key", version, flags, log) is on


@pytest.mark.parametrize(
    ("text", "log", "on"),
    [
        (
            "Vulnerable: LFENCE",
            "Spectre V2 : mitigation: Enabling conditional Indirect Branch Prediction Barrier\n",
            True,
        ),
        ("Vulnerable: LFENCE", "", None),
        ("Vulnerable: LFENCE; IBPB: conditional; STIBP: disabled; RSB filling", "", True),
        ("Vulnerable: LFENCE; STIBP: disabled; RSB filling", "", False),
    ],
)
def test_the_log_tells_of_ibpb_where_a_text_tells_the_mode_alone(text: str, log: str, on: bool | None) -> None:
    machine = Machine.from_dict({"vulnerabilities": {"spectre_v2": text}, "dmesg": log})
    query = KeyQuery(Facts(machine, (6, 3), 64), cast(FeatureWords, None))
    answer = RULES["switch_mm_cond_ibpb"].rule(query)
    assert (None if answer is None else answer.value) is on


@pytest.mark.parametrize("function", ["xen_page_pinned", "xen_alloc_pte.constprop.0"])
def test_a_key_of_xen_is_known_by_who_asks(function: str) -> None:
    assert by_place([function]) == "xen_struct_pages_ready"


def test_the_first_to_prepare_a_page_for_freeing_asks_whether_pages_are_checked() -> None:
    assert by_place(["free_tail_page_prepare", "__free_pages_ok"]) == "check_pages_enabled"


@pytest.mark.parametrize(("possible", "bits", "on"), [(2, 64, True), (64, 64, True), (65, 64, False), (33, 32, False)])
def test_a_mask_of_few_cpus_lies_in_the_place_of_its_pointer(possible: int, bits: int, on: bool) -> None:
    """smp_task_ipi_mask() of 7.3."""
    machine = Machine.from_dict({"possible_cpus": possible})
    query = KeyQuery(Facts(machine, (7, 3), bits), cast(FeatureWords, None))
    answer = RULES["ipi_mask_inlined"].rule(query)
    assert answer is not None
    assert answer.value is on
