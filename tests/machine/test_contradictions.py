"""Facts that exclude each other are told, and those of real boots do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from pvops.machine.contradictions import contradiction
from pvops.machine.machine import Machine


@pytest.mark.parametrize(
    ("texts", "given", "told"),
    [
        (
            {"retbleed": "Mitigation: Stuffing", "spectre_v2": "Mitigation: LFENCE"},
            {},
            'and vulnerabilities/spectre_v2 "M',
        ),
        ({"retbleed": "Mitigation: Stuffing", "spectre_v2": "Mitigation: Retpolines; STIBP: disabled"}, {}, None),
        ({"retbleed": "Mitigation: Stuffing"}, {}, None),
        ({"retbleed": "Mitigation: IBRS", "spectre_v2": "Mitigation: Retpolines"}, {}, 'takes "Mitigation: IBRS"'),
        ({"retbleed": "Mitigation: Enhanced IBRS", "spectre_v2": "Mitigation: Enhanced / Automatic IBRS"}, {}, None),
        ({"retbleed": "Mitigation: Enhanced IBRS", "spectre_v2": "Mitigation: IBRS"}, {}, "retbleed"),
        ({"spectre_v2": "Mitigation: Retpolines"}, {"cmdline": "nospectre_v2"}, "nospectre_v2 is on the command line"),
        ({"spectre_v2": "Mitigation: Retpolines"}, {"cmdline": "spectre_v2=off"}, "spectre_v2=off"),
        ({"spectre_v2": "Mitigation: Retpolines"}, {"cmdline": "spectre_v2=on"}, None),
        ({"spectre_v2": "Vulnerable"}, {"cmdline": "nospectre_v2"}, None),
        (
            {"retbleed": "Mitigation: Enhanced IBRS", "spectre_v2": "Vulnerable: eIBRS with unprivileged eBPF"},
            {},
            None,
        ),
        ({"meltdown": "Mitigation: PTI"}, {"flags": "fpu smap", "kernel": "Linux version 6.1.0"}, "have no pti"),
        ({"meltdown": "Mitigation: PTI"}, {"flags": "fpu pti", "kernel": "Linux version 6.1.0"}, None),
        ({"meltdown": "Mitigation: PTI"}, {"flags": "fpu kaiser", "kernel": "Linux version 4.9.115"}, None),
        ({"meltdown": "Mitigation: PTI"}, {"flags": "fpu"}, None),
        ({"meltdown": "Mitigation: PTI"}, {}, None),
    ],
)
def test_what_excludes_each_other_is_told(texts: dict[str, str], given: dict[str, str], told: str | None) -> None:
    found = contradiction(Machine.from_dict({"vulnerabilities": texts, **given}))
    assert (found is None) == (told is None), found
    assert told is None or told in str(found)


def test_facts_of_real_boots_contradict_nothing(kernels_root: Path) -> None:
    bundles = sorted(kernels_root.glob("boots*/*.facts"))
    assert bundles
    told = {path.name: contradiction(Machine.from_facts(path)) for path in bundles}
    assert {name: why for name, why in told.items() if why} == {}
