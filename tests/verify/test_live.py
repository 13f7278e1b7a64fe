"""A kernel that is judged while it runs: what it is just writing is read again, what stays is reported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import pvops
from pvops.image.memory import Memory
from pvops.kernel import Kernel


@pytest.fixture(scope="module")
def kernel(sample_kernel: Path) -> Kernel:
    return pvops.open(sample_kernel)


class Running(Memory):
    """Memory of a running kernel, whose text is another at each look; the last one stays."""

    def __init__(self, start: int, texts: Iterator[bytes]) -> None:
        self.texts, self.looks = texts, 0
        self.text = next(texts)

        def read(address: int, size: int) -> bytes:
            if address == start and size == len(self.text):
                self.text, self.looks = next(self.texts, self.text), self.looks + 1
            if not start <= address <= address + size <= start + len(self.text):
                raise LookupError
            return self.text[address - start : address - start + size]

        super().__init__(pvops.memory.open(read).core)

    @property
    def kind(self) -> str:
        return "live"


def texts(kernel: Kernel) -> tuple[int, bytes, bytes]:
    """Where the text begins, as built, and with an int3 in the middle."""
    start, size = next((address, size) for name, address, size, _ in kernel.image.sections() if name == ".text")
    text = kernel.image.read(start, size)
    assert text is not None
    changed = bytearray(text)
    changed[size // 2] ^= 0xCC
    return start, text, bytes(changed)


def test_what_the_kernel_is_just_writing_is_read_again(kernel: Kernel) -> None:
    start, text, changed = texts(kernel)
    quiet = kernel.verify(Running(start, iter([text])))
    memory = Running(start, iter([text, changed, text]))
    assert kernel.verify(memory).unexplained == quiet.unexplained
    assert memory.looks >= 2


def test_what_stays_is_reported(kernel: Kernel) -> None:
    start, text, changed = texts(kernel)
    quiet = kernel.verify(Running(start, iter([text])))
    report = kernel.verify(Running(start, iter([text, changed])))
    assert report.wrong_bytes == quiet.wrong_bytes + 1
    assert any(run.address <= start + len(text) // 2 < run.address + len(run.found) for run in report.unexplained)
