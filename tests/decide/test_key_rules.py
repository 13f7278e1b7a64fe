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
    query = KeyQuery(Facts(machine, version, 64), cast(FeatureWords, None), 0, 0, ())
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


@pytest.mark.parametrize("function", ["xen_page_pinned", "xen_alloc_pte.constprop.0"])
def test_a_key_of_xen_is_known_by_who_asks(function: str) -> None:
    assert by_place([function]) == "xen_struct_pages_ready"
