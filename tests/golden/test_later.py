"""What the patching functions of later kernels produced, line by line: of 3.10 to 6.6, and of RHEL 7 and 8.

``later.jsonl.xz`` has what their own ``apply_alternatives()``, ``apply_paravirt()``, ``native_patch()``, ``add_nops()``
and ``arch_init_ideal_nops()`` made of sites that were drawn, run in user space, in the form of the historical goldens.
``source`` says whose functions they are: 3.10.4, 3.10.0-1160.el7, 4.15.18, 4.18.0-147.el8, 5.4.286, 5.15.85 and 6.6.
"""

from __future__ import annotations

import json
import lzma
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from golden.comparers_patching import fill, nop_choice
from golden.data import Line
from pvops import _core
from pvops.decide.patching import core_rules, core_slot
from pvops.eras import era
from pvops.errors import KernelBug

#: Whose functions → the passes' rules of kernels of that time.
PASSES = {"3.10": "3.0", "el7": "3.0", "4.15": "5.10.0", "el8": "5.10.0", "5.4": "5.10.0", "5.15": "5.15", "6.6": "6.5"}
#: Disagreements shown.
SHOWN = 10
ELSEWHERE = 0xC0100000
#: Whose images have the warning that clobbers are not looked at (`pvops.eras.rules.ParavirtRules.unchecked`).
UNCHECKED = ("el7", "4.15", "el8")


@cache
def later() -> dict[tuple[str, str], list[Line]]:
    """The lines by source and kind."""
    found: dict[tuple[str, str], list[Line]] = defaultdict(list)
    with lzma.open(Path(__file__).with_name("later.jsonl.xz")) as file:
        for line in map(json.loads, file):
            found[line["source"], line["kind"]].append(line)
    return found


def alternative(line: Line) -> dict[str, Any]:
    """One row through apply_alternatives()."""
    try:
        after = _core.patch_alternative(
            PASSES[line["source"]],
            line["bits"],
            line["cpu_nops"],
            int(line["address"], 16),
            bytes.fromhex(line["before"]),
            int(line["replacement_address"], 16),
            bytes.fromhex(line["replacement"]),
            line["present"],
            line["pad"],
        )
    except KernelBug:
        return {"after": "BUG"}
    return {"after": after.hex()}


def paravirt(line: Line) -> dict[str, Any]:
    """One row through apply_paravirt(), by native_patch() or paravirt_patch_default()."""
    the_era = era(line["era"])
    config = the_era.config(line["bits"], tuple(line["config"]))
    place = the_era.template(config).op(line["op"])
    held = str(line["pointer"])
    native = int(line["target"], 16) if held == "native" else ELSEWHERE
    slot = core_slot(
        place.name,
        {"native": "function", "other": "function"}.get(held, held),
        int(line["target"], 16) if line["target"] else 0,
        jump=place.op.jump,
        patch=the_era.patch_function(config) if line["backend"] == "native" else None,
        resolve=lambda symbol: native,
    )
    out: dict[str, Any] = {"type": place.type}
    decides = the_era.paravirt
    assert decides is not None
    if line["source"] in UNCHECKED:
        assert decides.unchecked
        decides = decides._replace(clobbers=False)
    clobbers = the_era.clobbers(line["bits"])["CLBR_ANY"]
    rules = core_rules(decides, line["bits"], line["cpu_nops"], call_clobbers=clobbers)
    before, address = bytes.fromhex(line["before"]), int(line["address"], 16)
    try:
        after, used, _, _ = _core.patch_site(slot, rules, line["clobbers"], address, before)
    except KernelBug:
        return out | {"after": "BUG", "used": None}
    return out | {"after": after.hex(), "used": used}


COMPARERS = {"alternative": alternative, "paravirt": paravirt, "nops": fill, "nop-choice": nop_choice}


@pytest.mark.parametrize(("source", "kind"), list(later()), ids=str)
def test_reproduces_what_the_kernels_own_functions_produced(source: str, kind: str) -> None:
    wrong = []
    for line in later()[source, kind]:
        ours = COMPARERS[kind](line)
        theirs = {field: line[field] for field in ours}
        if ours != theirs:
            wrong.append(f"{json.dumps(line)}\n    ours   {json.dumps(ours)}\n    theirs {json.dumps(theirs)}")
    assert not wrong, f"{len(wrong)} of {len(later()[source, kind])} lines disagree\n" + "\n".join(wrong[:SHOWN])


def test_every_source_has_lines_of_its_kinds() -> None:
    assert {source for source, _ in later()} == PASSES.keys()
