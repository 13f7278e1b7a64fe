"""What a CPU does that has nothing to do: select_idle_routine()."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from pvops.decide.answers import Facts
from pvops.decide.calls import _idle
from pvops.machine.machine import Machine


@pytest.mark.parametrize(
    ("flags", "cmdline", "version", "goes"),
    [
        ("fpu monitor", "", (6, 12), "mwait_idle"),
        ("fpu monitor hypervisor", "", (6, 12), "default_idle"),
        ("fpu", "", (6, 12), "default_idle"),
        ("fpu monitor", "idle=halt", (6, 12), "default_idle"),
        ("fpu monitor", "idle=nomwait", (6, 12), "default_idle"),
        ("fpu monitor", "idle=nomwait", (5, 18), "mwait_idle"),
        ("fpu monitor", "idle=poll", (6, 12), None),
    ],
)
def test_the_idle_function(flags: str, cmdline: str, version: tuple[int, int], goes: str | None) -> None:
    facts = Facts(Machine.from_dict({"flags": flags, "bugs": "", "cmdline": cmdline}), version, 64)
    kernel = cast(Any, SimpleNamespace(address_of=lambda name: None))
    assert _idle(facts, kernel)["x86_idle"].symbol == goes
