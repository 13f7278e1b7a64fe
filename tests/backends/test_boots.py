"""Every slot of every boot: what a backend fills, given the machine's facts, against what the kernel itself held.

The boots' ``pv_ops`` are the answers and never an input.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

from backends.image_view import KernelView
from kernels.given import given
from pvops import backends
from pvops.backends.backend import Backend, Fill, ImageView, Slot
from pvops.eras.structs import Config
from pvops.machine.machine import Machine

KERNELS = os.environ.get("PVOPS_KERNELS")
ERAS = ("5.10", "6.1", "6.12", "7.2")

pytestmark = pytest.mark.kernels


def _boots() -> list[str]:
    if not KERNELS:
        return []
    found = sorted(Path(KERNELS, "boots").glob("*.json"))
    return [path.stem for path in found if path.stem.startswith(ERAS) and "pv_ops" in json.loads(path.read_text())]


@cache
def view(kernel: str) -> KernelView:
    """The one place where these tests open a kernel."""
    return KernelView(Path(KERNELS or "", "kernels", f"vmlinuz-{kernel}"))


def fill_of(kernel: str, machine: Machine | None) -> Fill:
    image = view(kernel)
    era = max((era for era in ERAS if kernel.startswith(f"{era}.")), key=len)
    config = Path(KERNELS or "", "kernels", f"config-{kernel}").read_text().splitlines()
    symbols = (line[7:].split("=")[0] for line in config if line.startswith("CONFIG_") and line[-2:] in ("=y", "=m"))
    return Fill(era, image.bits, Config(*symbols), image.ops, image.native, image, machine)


def test_there_are_boots() -> None:
    given("boots")
    assert _boots()


@pytest.mark.parametrize("boot", _boots())
def test_every_slot_of_a_boot(boot: str) -> None:
    kernel = boot.partition("~")[0]
    folder = Path(KERNELS or "", "boots")
    machine = Machine.from_facts(folder / f"{boot}.facts")
    name = machine.backend.value
    assert name is not None
    fill = fill_of(kernel, machine)
    slots = backends.get(name).fill(fill)
    assert list(slots) == list(fill.ops)
    answer = json.loads((folder / f"{boot}.json").read_text())
    held = answer["pv_ops"]["slots"][: len([op for op in fill.ops if view(kernel).table[op] == "pv_ops"])]
    held += answer.get("pv_ops_lock", {"slots": []})["slots"]
    assert len(held) == len(fill.ops)
    wrong = [
        f"{op}: {slot.symbol}, held {found} ({slot.why})"
        for (op, slot), found in zip(slots.items(), held, strict=True)
        if not _same(view(kernel), slot, found)
    ]
    assert not wrong
    assert all(slot.why and slot.source for slot in slots.values())


def _same(image: KernelView, slot: Slot, found: str | None) -> bool:
    """One function may have several names: compare addresses."""
    return not slot.address if found is None else slot.address in image.kernel.image.addresses_of(found)


@pytest.mark.parametrize("kernel", sorted({boot.partition("~")[0] for boot in _boots()}))
@pytest.mark.parametrize("name", backends.names()[:6])
def test_every_backend_fills_every_kernel_without_a_machine(kernel: str, name: str) -> None:
    fill = fill_of(kernel, None)
    slots = backends.get(name).fill(fill)
    changed = [op for op in fill.ops if slots[op].address != fill.native[op].address]
    unchanged = name == "native" or (name == "vmware" and "pv_cpu_ops.io_delay" not in fill.ops)
    assert bool(changed) != unchanged
    assert all(slots[op].symbol for op in fill.ops if slots[op].address)


@pytest.mark.parametrize("kernel", sorted({boot.partition("~")[0] for boot in _boots()}))
def test_the_patch_function(kernel: str) -> None:
    fill = fill_of(kernel, None)
    expected = {
        "5.10": ("native_patch", "paravirt_patch_default"),
        "6.1": ("paravirt_patch", "paravirt_patch"),
    }.get(fill.era, ("apply_alternatives", "apply_alternatives"))
    native: Backend = backends.get("native")
    xen: Backend = backends.get("xen")
    assert (native.patcher(fill), xen.patcher(fill)) == expected


class Nameless:
    """A kernel whose Xen tables have no symbols."""

    def __init__(self, image: ImageView) -> None:
        self.image, self.bits, self.word = image, image.bits, image.word
        self.symbol_at, self.read_word = image.symbol_at, image.read_word

    def address_of(self, symbol: str) -> int | None:
        return None if symbol in ("xen_cpu_ops", "xen_irq_ops", "xen_mmu_ops") else self.image.address_of(symbol)

    def find_words(self, words: Mapping[int, int]) -> int | None:
        return None


@pytest.mark.parametrize("kernel", sorted({boot.partition("~")[0] for boot in _boots()}))
def test_the_declared_tables_are_those_of_the_image(kernel: str) -> None:
    fill = fill_of(kernel, None)
    read = backends.get("xen").fill(fill)
    declared = backends.get("xen").fill(fill._replace(image=Nameless(fill.image)))
    assert {op: slot.symbol for op, slot in declared.items()} == {op: slot.symbol for op, slot in read.items()}
