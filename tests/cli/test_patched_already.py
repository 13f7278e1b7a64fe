"""An image that was patched already is no kernel that memory is held to: all of it would be as built."""

from __future__ import annotations

from pathlib import Path

import pytest

import pvops
from cli.run import trouble
from pvops import sample


@pytest.fixture(params=["6.1", "6.12", "7.2"])
def patched(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "vmlinux-patched"
    pvops.open(sample.build(request.param, 64).elf).plan("native", machine="intel-haswell").save(path)
    return path


def test_memory_is_not_held_to_it(patched: Path, tmp_path: Path) -> None:
    kernel = pvops.open(patched)
    text = next(kernel.image.read(start, size) for name, start, size, _ in kernel.image.sections() if name == ".text")
    (tmp_path / "text").write_bytes(text or b"")
    assert "patched" in trouble("verify", str(patched), str(tmp_path / "text"))


@pytest.mark.parametrize("command", ["explain {} sample_lock", "patch {} -o {}.again", "diff {} native kvm"])
def test_it_is_not_patched_again(patched: Path, command: str) -> None:
    assert "patched" in trouble(*(word.format(patched) for word in command.split()))
