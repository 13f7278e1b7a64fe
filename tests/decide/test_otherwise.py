"""The boot that takes the other way what a machine does not tell runs no row that cannot come out otherwise: what it
leaves otherwise is what a whole boot leaves."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

import pytest

import pvops._core as _core
from kernels.given import given
from pvops import eras, sample
from pvops.decide.prediction import FeatureWords
from pvops.kernel import Kernel, open
from pvops.machine.machine import Machine

#: A CPU whose call sites and returns no feature has counted or sent to pages that are allocated.
PLAIN = Machine(
    name="plain", vendor="GenuineIntel", family=6, model=143, online_cpus=2, flags=["fpu"], hypervisor="none"
)
SAMPLES = [(era, bits) for era in sample.ERAS for bits in eras.era(era).bits]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Random:
    """What is taken the other way is what this draws, of the features that rows ask for."""
    draw = Random(0)
    whole = FeatureWords.words

    def words(self: FeatureWords, also: Iterable[int] = (), *, otherwise: bool = False) -> list[int]:
        found = whole(self, also)
        asked = [number for number in self.numbers.consulted() if number < len(found) * 32]
        for number in draw.sample(asked, min(len(asked), draw.randint(1, 4))) if otherwise else ():
            found[number // 32] ^= 1 << number % 32
        return found

    monkeypatch.setattr(FeatureWords, "words", words)
    monkeypatch.setattr(FeatureWords, "unknown", lambda self: list(self))
    return draw


def held_to_a_whole_boot(kernel: Kernel, backend: str) -> int:
    """Compares both; how many places differ."""
    plan = kernel.plan(backend, machine=PLAIN)
    assert plan.setup.otherwise is not None, "no row asks for a feature"
    other, passes = plan.setup.otherwise(), plan.rules.passes
    whole = plan._core.differences(_core.Plan.boot(kernel.tables, other, passes))
    marked = {site[:2] for site in plan._core.undetermined(kernel.tables).sites()}
    found = plan._core.undetermined(kernel.tables, (plan.setup.core, other, passes, []))
    open_ = [(address, size, forms[:2]) for address, size, _, _, forms in found.sites()]
    left = [(address, len(built), [side.hex() for side in sides]) for address, _, built, sides, _ in whole]
    assert [place for place in open_ if place[:2] not in marked] == [place for place in left if place[:2] not in marked]
    return len(whole)


@pytest.mark.parametrize(("era", "bits"), SAMPLES)
def test_on_samples_of_all_eras(era: str, bits: int, drawn: Random) -> None:
    kernel = open(sample.build(era, bits, tables=True).elf)
    if kernel.has_section(".altinstructions"):
        for _ in range(20):
            held_to_a_whole_boot(kernel, "native")


@pytest.mark.parametrize(
    "name", ["5.10.0-46-amd64", "6.1.0-56-amd64", "6.1.0-50-686-pae", "6.12.117+deb12-amd64", "7.2.13+deb14-amd64"]
)
def test_on_real_kernels(name: str, drawn: Random) -> None:
    kernel = open(given(f"kernels/vmlinuz-{name}"))
    assert sum(held_to_a_whole_boot(kernel, backend) for backend in ("native", "kvm") for _ in range(4)) > 0
