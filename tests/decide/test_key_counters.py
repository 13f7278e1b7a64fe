"""Keys of the CPU's counters, by what the log says of them, on machines made by hand."""

from __future__ import annotations

from typing import Any, cast

import pytest

from pvops.decide.answers import Facts
from pvops.decide.key_conditions import KeyQuery
from pvops.decide.key_rules import RULES
from pvops.decide.prediction import FeatureWords
from pvops.machine.machine import Machine

LOG = "[    0.2] Performance Events: {}, Intel PMU driver.\n"


def state(key: str, events: str, model: int, flags: str = "", **given: Any) -> bool | None:
    told = {"vendor": "GenuineIntel", "family": 6, "model": model, "flags": f"fpu {flags}", "dmesg": LOG.format(events)}
    query = KeyQuery(Facts(Machine.from_dict({**told, **given}), (6, 12), 64), cast(FeatureWords, None))
    answer = RULES[key].rule(query)
    return None if answer is None else answer.value


SKYLAKE, HASWELL, BROADWELL = "PEBS fmt3+, Skylake events, 32-deep LBR", "PEBS fmt2+, Haswell events, 16-deep LBR", 0x4F
ALDER_LAKE = "XSAVE Architectural LBR, PEBS fmt4+-baseline,  AnyThread deprecated, Alderlake Hybrid events"


@pytest.mark.parametrize(
    ("key", "events", "model", "flags", "on"),
    [
        ("x86_lbr_mispred", SKYLAKE, 0x5E, "", True),
        ("x86_lbr_cycles", SKYLAKE, 0x55, "", True),
        ("x86_lbr_type", SKYLAKE, 0x55, "", None),
        ("x86_lbr_cycles", "Skylake events", 0x55, "", None),
        ("x86_lbr_cycles", HASWELL, 0x3C, "", None),
        ("x86_lbr_type", ALDER_LAKE, 0x97, "", True),
        ("lbr_from_quirk_key", HASWELL, 0x3C, "", True),
        ("lbr_from_quirk_key", HASWELL, 0x3F, "rtm", False),
        ("lbr_from_quirk_key", "PEBS fmt2+, Broadwell events, 16-deep LBR", BROADWELL, "hle", False),
        ("lbr_from_quirk_key", SKYLAKE, 0x5E, "", None),
        ("lbr_from_quirk_key", "Haswell events", 0x3C, "", None),
        ("perf_is_hybrid", ALDER_LAKE, 0x97, "", True),
        ("perf_is_hybrid", SKYLAKE, 0x5E, "", None),
    ],
)
def test_how_the_record_of_branches_is_read(key: str, events: str, model: int, flags: str, on: bool | None) -> None:
    assert state(key, events, model, flags) is on


def test_cpuid_says_what_an_architectural_record_has() -> None:
    leaf = {"eax": "0", "ebx": "0", "ecx": "0x3", "edx": "0"}
    found = [state(f"x86_lbr_{part}", ALDER_LAKE, 0x97, cpuid={"0x1c": leaf}) for part in ("mispred", "cycles", "type")]
    assert found == [True, True, False]
