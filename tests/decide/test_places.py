"""A plan of some places has there what the whole plan has: writes, reasons and guesses."""

from __future__ import annotations

import pickle
from dataclasses import replace
from random import Random

import pytest

from kernels.given import given
from pvops import eras, sample
from pvops.errors import OpsError
from pvops.image.places import Place
from pvops.kernel import Kernel, open
from pvops.machine.machine import Machine

SAMPLES = [(era, bits) for era in sample.ERAS for bits in eras.era(era).bits]
SKYLAKE = Machine.load("intel-skylake-server")
#: A usual one, none, one that counts calls, one whose calls may go to pages that are allocated, one that tells nothing.
MACHINES: tuple[Machine | str | None, ...] = (
    None,
    "baseline",
    replace(SKYLAKE, cmdline="retbleed=stuff"),
    replace(SKYLAKE, bugs=SKYLAKE.bugs and SKYLAKE.bugs | {"its"}),
    Machine(name="nothing told"),
)


def held_to_the_whole_plan(
    kernel: Kernel, draw: Random, backend: str, machine: Machine | str | None, rounds: int
) -> int:
    """Compares both at drawn places; how many writes there were."""
    whole = kernel.plan(backend, machine=machine)
    sites = kernel.sites.columns.column("address")
    code = [(start, size) for _, start, size, executable in kernel.image.sections() if executable and size]
    seen = 0
    for _ in range(rounds):
        start, size = draw.choice(code)
        at = draw.choice(sites) + draw.randint(-8, 8) if draw.random() < 0.7 else start + draw.randrange(size)
        places = [Place(at, draw.choice((1, 1, 5, 300, 5000)), None)]
        if draw.random() < 0.3:
            places.append(Place(draw.choice(sites), 16, None))
        part = kernel.plan(backend, machine=machine, places=places)
        for place in places:
            found = part.raw(place.address, place.end)
            assert found == whole.raw(place.address, place.end)
            assert part.undetermined_at(place.address, place.end) == whole.undetermined_at(place.address, place.end)
            assert part.at(place.address) == whole.at(place.address)
            seen += len(found)
    return seen


@pytest.mark.parametrize(("era", "bits"), SAMPLES)
def test_on_samples_of_all_eras(era: str, bits: int) -> None:
    kernel = open(sample.build(era, bits, tables=True).elf)
    assert sum(held_to_the_whole_plan(kernel, Random(era), "native", machine, 6) for machine in MACHINES) > 0


@pytest.mark.parametrize(
    "name", ["5.10.0-46-amd64", "6.1.0-56-amd64", "6.1.0-50-686-pae", "6.12.117+deb12-amd64", "7.2.13+deb14-amd64"]
)
def test_on_real_kernels(name: str) -> None:
    kernel = open(given(f"kernels/vmlinuz-{name}"))
    draw, xen = Random(name), "xen" if kernel.bits == 64 else "kvm"
    boots = [("native", None), ("kvm", MACHINES[2]), ("native", MACHINES[3]), (xen, MACHINES[4])]
    assert sum(held_to_the_whole_plan(kernel, draw, backend, machine, 6) for backend, machine in boots) > 0


def test_rows_that_are_not_run_take_their_place_in_the_pages_of_its() -> None:
    kernel = open(given("kernels/vmlinuz-6.1.0-56-amd64"))
    thunked = [write for write in kernel.plan("native", machine=MACHINES[3]).raw() if write[4] == "thunked"]
    address = thunked[-1][0]
    part = kernel.plan("native", machine=MACHINES[3], places=[Place(address, 1, None)])
    assert len(part) < 100
    assert thunked[-1] in part.raw()


def test_a_plan_of_places_has_neither_text_nor_image_and_is_compared_with_none() -> None:
    kernel = open(sample.build(era="6.12").elf)
    whole = kernel.plan("native")
    part = pickle.loads(pickle.dumps(kernel.plan("native", places=kernel.places("sample_lock"))))
    assert 0 < len(part) < len(whole)
    for ask in (part.apply, part.image, lambda: part.save("/dev/null"), lambda: part.differences(whole)):
        with pytest.raises(OpsError, match="a plan of some places"):
            ask()
    with pytest.raises(OpsError, match="a plan of some places"):
        whole.differences(part)
