"""Machines that no boot was recorded of: what `patch` says of them is explained; one site alone may not look so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from pvops.kernel import Kernel
from pvops.machine import presets
from pvops.machine.machine import Machine

pytestmark = pytest.mark.kernels

STUFFED = "retbleed=stuff spectre_v2=retpoline"


def text_on(kernel: Kernel, machine: Machine) -> bytearray:
    return bytearray(kernel.plan(machine=machine).apply())


def counted(kernel: Kernel) -> tuple[int, int]:
    """``.text``'s address, and a direct call that is counted and that no other table names."""
    start = next(address for name, address, _, _ in kernel.image.sections() if name == ".text")
    plan = kernel.plan(machine=presets.machine("intel-skylake-server", cmdline=STUFFED))
    calls = [address for address, table, _, _, kind, *_ in plan.raw() if (table, kind) == ("call_sites", "thunked")]
    middle = calls[len(calls) // 2 :]
    return start, next(call for call in middle if len(plan.at(call)) == 1)


@pytest.mark.parametrize("release", ["6.12.117+deb12-amd64", "7.2.13+deb14-amd64"])
def test_counted_calls_are_explained_all_together(kernel: Callable[[str], Kernel], release: str) -> None:
    opened = kernel(release)
    skylake = presets.machine("intel-skylake-server", cmdline=STUFFED)
    stuffed = text_on(opened, skylake)
    plain = text_on(opened, presets.machine("intel-skylake-server", cmdline="spectre_v2=retpoline"))
    report = opened.verify(bytes(stuffed))
    assert report, report.unexplained[:5]
    assert report.mitigations == {
        "branches": "retpolines, calls counted",
        "return_thunk": "call_depth_return_thunk",
    }
    assert report.explained["call_sites"] > 300_000

    # A call that is not counted among those that are, and the other way round.
    start, call = counted(opened)
    for text, other in ((stuffed, plain), (plain, stuffed)):
        one = bytearray(text)
        at = call - start
        one[at : at + 5] = other[at : at + 5]
        (run,) = opened.verify(bytes(one)).unexplained
        assert call <= run.address < call + 5
        assert run.wrong == sum(a != b for a, b in zip(stuffed[at : at + 5], plain[at : at + 5], strict=True))


def test_one_bit_of_a_pad(kernel: Callable[[str], Kernel]) -> None:
    opened = kernel("6.12.117+deb12-amd64")
    text = text_on(opened, presets.machine("intel-skylake-server", cmdline=STUFFED))
    start, call = counted(opened)
    at = call - start
    pad = at + 5 + int.from_bytes(text[at + 1 : at + 5], "little", signed=True)
    assert text[pad : pad + 4] == bytes.fromhex("65 48 c1 3d")
    text[pad + 4] ^= 1
    (run,) = opened.verify(bytes(text)).unexplained
    assert (run.address, run.wrong) == (start + pad + 4, 1)


@pytest.mark.parametrize("release", ["6.12.117+deb12-amd64", "7.2.13+deb14-amd64"])
def test_thunks_in_pages_that_the_kernel_allocated(kernel: Callable[[str], Kernel], release: str) -> None:
    opened = kernel(release)
    haswell = presets.machine("intel-haswell", cmdline="setcpuid=ibrs_enhanced")
    haswell = replace(
        haswell,
        flags=(haswell.flags or frozenset()) | {"ibrs_enhanced"},
        bugs=(haswell.bugs or frozenset()) | {"its"},
    )
    report = opened.verify(bytes(text_on(opened, haswell)))
    assert report, report.unexplained[:5]
    assert report.mitigations["branches"] == "indirect branches, ITS thunks"
    assert report.mitigations["return_thunk"] == "its_return_thunk"
