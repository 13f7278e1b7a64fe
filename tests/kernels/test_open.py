"""What a kernel can be opened from."""

from __future__ import annotations

import array
import gzip
import mmap
from pathlib import Path
from typing import Any

import pytest

import pvops


def test_a_path_bytes_and_every_buffer_are_the_same_kernel(sample_kernel: Path) -> None:
    data = sample_kernel.read_bytes()
    with sample_kernel.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    buffers: list[Any] = [data, bytearray(data), memoryview(data), array.array("B", data), mapped]
    sources: list[Any] = [str(sample_kernel), sample_kernel, *buffers]
    opened = [pvops.open(source) for source in sources]
    assert {len(kernel.sites) for kernel in opened} == {len(opened[0].sites)}
    assert opened[0].name == str(sample_kernel)
    assert opened[2].name == "<bytes>"


def test_an_elf_file_in_memory_is_used_where_it_is(sample_kernel: Path) -> None:
    data = bytearray(sample_kernel.read_bytes())
    kernel = pvops.open(data)
    address = next(address for name, address, *_ in kernel.image.sections() if name == ".text")
    before = kernel.image.read(address, 64)
    assert before is not None
    data[data.index(before)] ^= 0xFF
    assert kernel.image.read(address, 1) == bytes([before[0] ^ 0xFF])
    with pytest.raises(BufferError):
        data.clear()
    del kernel
    data.clear()


def test_a_packed_kernel_in_memory_is_let_go_once_it_is_unpacked(sample_kernel: Path) -> None:
    packed = bytearray(gzip.compress(sample_kernel.read_bytes()))
    kernel = pvops.open(packed)
    packed.clear()
    assert len(kernel.sites) == len(pvops.open(sample_kernel).sites)


def test_bytes_that_do_not_lie_one_behind_the_other_are_copied(sample_kernel: Path) -> None:
    data = sample_kernel.read_bytes()
    spread = bytearray(2 * len(data))
    spread[::2] = data
    assert len(pvops.open(memoryview(spread)[::2]).sites) == len(pvops.open(data).sites)


def test_what_is_neither_path_nor_buffer_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        pvops.open(42)  # type: ignore[arg-type]


def test_the_patched_text_is_a_buffer_that_needs_no_copy(sample_kernel: Path) -> None:
    text = pvops.open(sample_kernel).plan("native").apply()
    assert memoryview(text).nbytes == len(text)


def test_errors_are_one_hierarchy_with_the_place_as_attributes(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF" + bytes(60))
    with pytest.raises(pvops.Error) as caught:
        pvops.open(broken)
    assert isinstance(caught.value, pvops.errors.ImageError)
    assert caught.value.file == str(broken)
    assert caught.value.reason
    assert str(caught.value).startswith(f"{broken}: ")
