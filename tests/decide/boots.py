"""Boots to hold predictions against: facts in, what the kernel itself held and what its text became as the answers."""

from __future__ import annotations

import json
import lzma
import os
import struct
from functools import cache
from pathlib import Path
from typing import Any

import pvops
from pvops.decide.prediction import FeatureWords, predict
from pvops.kernel import Kernel
from pvops.machine.machine import Machine

KERNELS = os.environ.get("PVOPS_KERNELS")


def names() -> list[str]:
    """Every boot: ``KERNEL~MODE``."""
    return sorted(path.stem for path in Path(KERNELS, "boots").glob("*.json")) if KERNELS else []


def kernels() -> list[str]:
    """Every kernel that was booted."""
    return sorted({name.partition("~")[0] for name in names()})


@cache
def kernel(release: str) -> Kernel:
    """An opened kernel."""
    return pvops.open(Path(KERNELS or "", "kernels", f"vmlinuz-{release}"))


def machine(boot: str) -> Machine:
    """The facts of a boot."""
    return Machine.from_facts(Path(KERNELS or "", "boots", f"{boot}.facts"))


def words(boot: str) -> FeatureWords:
    """The prediction for a boot."""
    return predict(machine(boot), kernel(boot.partition("~")[0]))


def answers(boot: str) -> dict[str, Any]:
    """What the kernel held: never an input of a prediction."""
    found: dict[str, Any] = json.loads(Path(KERNELS or "", "boots", f"{boot}.json").read_text())
    return found


class Memory:
    """``.text`` of a boot, as it stood in memory."""

    def __init__(self, boot: str) -> None:
        image = kernel(boot.partition("~")[0]).image
        self.address, size = next((a, s) for name, a, s, _ in image.sections() if name == ".text")
        self.text = bytearray(image.read(self.address, size) or b"")
        runs, at = lzma.decompress(Path(KERNELS or "", "boots", f"{boot}.runs.xz").read_bytes()), 0
        while at < len(runs):
            address, length = struct.unpack_from("<QI", runs, at)
            start = address - self.address
            self.text[start : start + length] = runs[at + 12 : at + 12 + length]
            at += 12 + length

    def __contains__(self, address: int) -> bool:
        return self.address <= address < self.address + len(self.text) - 16

    def read(self, address: int, length: int) -> bytes:
        """Bytes at an address."""
        start = address - self.address
        return bytes(self.text[start : start + length])
