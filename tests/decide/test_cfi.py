"""How a machine's kernel checks indirect calls: what its command line and its log say."""

from __future__ import annotations

from typing import NamedTuple, cast

import pytest

from pvops.decide.cfi import cfi
from pvops.decide.prediction import FeatureWords
from pvops.image.kernel_image import KernelImage
from pvops.machine.machine import Machine


class _Feature(NamedTuple):
    value: bool


class _Words(NamedTuple):
    """Features that the CPU has."""

    present: tuple[str, ...] = ()

    def named(self, name: str) -> _Feature:
        return _Feature(name in self.present)


class _Image:
    """An image whose ``cfi_warn`` is built so."""

    def __init__(self, warns: bool) -> None:
        self.image = self
        self._warns = warns

    def address_of(self, name: str) -> int | None:
        return 0x1000 if name == "cfi_warn" else None

    def read(self, address: int, size: int) -> bytes:
        assert (address, size) == (0x1000, 1)
        return bytes([self._warns])


def asked(cmdline: str = "", log: str = "", present: tuple[str, ...] = (), warns: bool = False) -> tuple[str, bool]:
    """The mode, and whether the seed is known."""
    machine = Machine(cmdline=cmdline, dmesg=log)
    mode, _, known = cfi(machine, cast(FeatureWords, _Words(present)), cast(KernelImage, _Image(warns)))
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


def test_functions_clear_their_arguments_where_the_kernel_says_or_is_told_so() -> None:
    assert asked("cfi=fineibt,bhi", "[    0.1] SMP alternatives: Using FineIBT+BHI CFI")[0] == "fineibt,bhi"
    assert asked("", "Using paranoid FineIBT+BHI CFI")[0] == "fineibt,paranoid,bhi"
    assert asked("cfi=fineibt,bhi,paranoid")[0] == "fineibt,paranoid,bhi"
    assert asked("cfi=bhi,fineibt")[0] == "fineibt", "bhi depends on fineibt before it"
    assert asked("cfi=fineibt,bhi,auto", present=("IBT",))[0] == "fineibt,paranoid,bhi"
    # Without CONFIG_FINEIBT_BHI the option is ignored, and the log says so.
    assert asked("cfi=fineibt,bhi", "Using FineIBT CFI")[0] == "fineibt"


def test_a_kernel_that_only_warns_clears_by_a_call() -> None:
    assert asked("cfi=fineibt,bhi,warn")[0] == "fineibt,bhi,warn"
    assert asked("cfi=fineibt,bhi", warns=True)[0] == "fineibt,bhi,warn"
    assert asked("cfi=fineibt,warn")[0] == "fineibt"
    assert asked("cfi=kcfi", warns=True)[0] == "kcfi"
