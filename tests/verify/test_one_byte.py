"""One changed byte of any site is reported as that byte, whatever hangs on the site alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest

from kernels.given import Boot
from pvops.kernel import Kernel
from pvops.verify.report import Report
from verify.test_boots import text_of
from verify.test_data import Scene


def reported(report: Report) -> set[int]:
    """The addresses of all bytes that are not as they should be."""
    return {
        run.address + at
        for run in report.unexplained
        for at, (found, expected) in enumerate(zip(run.found, run.expected, strict=True))
        if found != expected
    }


def text_start(kernel: Kernel) -> int:
    return next(address for name, address, *_ in kernel.image.sections() if name == ".text")


def test_of_every_call_of_an_op() -> None:
    scene, dice = Scene(), random.Random(5)
    text = range(scene.clean.address, scene.clean.address + scene.clean.size)
    places = sorted(address for sites in scene.sites.values() for address in sites if address in text)
    assert len(places) > 50
    for at in places:
        changed = at + dice.randrange(5)
        found = scene.judged([(changed, bytes([scene.code(changed, 1)[0] ^ dice.randrange(1, 256)]))])
        assert reported(found) == {changed}, f"{at:#x}"


def few(kernel: Kernel, text: range, tables: Iterable[str]) -> Mapping[tuple[str, object], list[tuple[int, int]]]:
    """Sites by what decides them: a feature, a key, a call, an op."""
    found: dict[tuple[str, object], list[tuple[int, int]]] = {}
    for site in kernel.sites:
        if site.address not in text:
            continue
        for row in site.rows:
            on = next((value for name in ("key", "feature", "type") if (value := getattr(row, name, None))), None)
            if row.table in tables and on is not None:
                found.setdefault((row.table, on), []).append((site.address, getattr(row, "len", None) or 5))
    return found


@pytest.mark.kernels
@pytest.mark.parametrize(
    "name", ["6.1.0-56-amd64~native-max-smp2", "6.1.0-56-amd64~xenpv-max-smp2", "5.10.0-46-amd64~kvm-max-smp2"]
)
@pytest.mark.parametrize("calls", ["static_calls", "trampolines"])
def test_of_a_site_of_each_unknown(name: str, calls: str, kernels_root: Path, kernel: Callable[[str], Kernel]) -> None:
    """Of each feature, key, op and call one site is changed, all at once: none of them draws another with it."""
    opened = kernel(name.split("~")[0])
    _, clean = text_of(opened, Boot(kernels_root / f"boots/{name}.json"))
    start, dice = text_start(opened), random.Random(7)
    memory, changed = bytearray(clean), set[int]()
    tables = ("alternatives", "paravirt", "jump_labels", calls)
    for (table, _), sites in few(opened, range(start, start + len(clean) - 16), tables).items():
        address, length = dice.choice(sites)
        # The opcode and the lowest byte of a displacement: no function begins there.
        at = address + (dice.randrange(2) if table == calls else dice.randrange(length))
        if changed.isdisjoint(range(at - 64, at + 64)):
            memory[at - start] ^= 1
            changed.add(at)
    assert len(changed) > 1500
    found = reported(opened.verify(bytes(memory)))
    assert found == changed, [f"{address:#x}" for address in sorted(found ^ changed)]
