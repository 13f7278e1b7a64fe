"""How a machine's kernel checks indirect calls: what its command line and its log say."""

from __future__ import annotations

from typing import NamedTuple, cast

import pytest

from pvops.decide.cfi import cfi
from pvops.decide.prediction import FeatureWords
from pvops.errors import OpsError
from pvops.machine.machine import Machine


class _Feature(NamedTuple):
    value: bool


class _Words(NamedTuple):
    """Features that the CPU has."""

    present: tuple[str, ...] = ()

    def named(self, name: str) -> _Feature:
        return _Feature(name in self.present)


def asked(cmdline: str = "", log: str = "", present: tuple[str, ...] = ()) -> tuple[str, bool]:
    """The mode, and whether the seed is known."""
    machine = Machine(cmdline=cmdline, dmesg=log)
    mode, _, known = cfi(machine, cast(FeatureWords, _Words(present)))
    return mode, known


@pytest.mark.parametrize(
    ("present", "mode"), [((), "kcfi"), (("IBT",), "fineibt,paranoid"), (("IBT", "FRED"), "fineibt")], ids=str
)
def test_the_cpu_decides_where_nobody_says(present: tuple[str, ...], mode: str) -> None:
    assert asked(present=present) == (mode, False)


@pytest.mark.parametrize(
    ("cmdline", "said"),
    [
        ("cfi=off", ("off", True)),
        ("cfi=kcfi,norand", ("kcfi", True)),
        ("cfi=fineibt", ("fineibt", False)),
        ("cfi=fineibt,paranoid,norand", ("fineibt,paranoid", True)),
        ("cfi=paranoid", ("kcfi", False)),
    ],
)
def test_the_command_line_decides_before_it(cmdline: str, said: tuple[str, bool]) -> None:
    assert asked(cmdline, present=()) == said


def test_the_log_has_the_last_word() -> None:
    assert asked("cfi=fineibt", "[    0.1] SMP alternatives: Using kCFI")[0] == "kcfi"
    assert asked("", "[    0.1] SMP alternatives: Using paranoid FineIBT CFI")[0] == "fineibt,paranoid"


def test_functions_that_scrub_their_arguments_are_not_predicted() -> None:
    with pytest.raises(OpsError, match=r"FineIBT\+BHI \(cfi=fineibt,bhi\), whose functions are not predicted"):
        asked("cfi=fineibt,bhi", "[    0.1] SMP alternatives: Using FineIBT+BHI CFI")
    assert asked("cfi=fineibt,bhi")[0] == "fineibt"
