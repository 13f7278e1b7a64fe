"""Memory opened from Python: what it can be opened from, what is found in it, how errors come back."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

import pvops
from image.memory.slid import SLIDE, TEXT, Slid
from pvops.errors import DumpError, Error, InputError

KCORE = Path("/proc/kcore")


@pytest.fixture(scope="module")
def slid() -> Slid:
    return Slid()


def test_raw_text_is_a_path_or_any_buffer(slid: Slid, tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(slid.text)
    for source in (path, str(path), slid.text, bytearray(slid.text), memoryview(slid.text)):
        memory = pvops.memory.open(source)
        assert memory.kind == "plain"
        found = memory.find(slid.kernel)
        assert found.slide == 0
        assert found.section(".text").bytes == slid.text
    assert pvops.memory.open(path).name == str(path)
    assert pvops.memory.open(slid.text).name == "<bytes>"


def test_a_function_that_reads_addresses_is_memory(slid: Slid) -> None:
    memory = pvops.memory.open(slid.read)
    assert (memory.kind, memory.name) == ("reader", "<Slid.read>")
    found = memory.find(slid.kernel)
    assert (found.slide, found.physical) == (SLIDE, None)
    held = found.section(".text")
    assert (held.address, held.bytes, held.unread, held.strays) == (TEXT, slid.text, [], [])
    data = found.section(".data")
    assert data.bytes == slid.kernel.image.read(data.address, len(data.bytes)), "pointers are moved back"


def test_what_a_reader_does_not_have_is_unread(slid: Slid) -> None:
    def read(address: int, size: int) -> bytes:
        if address + size > TEXT + SLIDE + len(slid.text):
            raise LookupError(f"{address:#x} is not there")
        return slid.read(address, size)

    found = pvops.memory.open(read).find(slid.kernel)
    assert not found.section(".text").unread
    data = found.section(".data")
    assert data.unread == [(data.address, data.address + len(data.bytes))]
    assert not any(data.bytes)


def test_a_reader_that_has_nothing_is_quoted(slid: Slid) -> None:
    def read(address: int, size: int) -> bytes:
        raise LookupError("no such page")

    with pytest.raises(DumpError, match=r"none of the addresses it can slide to; the reader says: .*no such page"):
        pvops.memory.open(read).find(slid.kernel)


@pytest.mark.parametrize("error", [TypeError, NameError, KeyboardInterrupt])
def test_a_slip_in_a_reader_is_no_hole_in_memory(slid: Slid, error: type[BaseException]) -> None:
    def read(address: int, size: int) -> bytes:
        raise error("slip")

    with pytest.raises(error, match="slip"):
        pvops.memory.open(read).find(slid.kernel)


def test_a_reader_that_returns_no_bytes_is_a_slip(slid: Slid) -> None:
    with pytest.raises((TypeError, BufferError)):
        pvops.memory.open(lambda address, size: "text").find(slid.kernel)  # type: ignore[arg-type, return-value]


def test_progress_is_told_and_may_end_the_search(slid: Slid) -> None:
    memory = pvops.memory.open(bytes(1 << 22))
    told: list[tuple[int, int]] = []
    with pytest.raises(DumpError, match="nothing but zeros"):
        memory.find(slid.kernel, lambda done, total: told.append((done, total)))
    assert told
    assert all(0 <= done <= total == 1 << 22 for done, total in told)

    def enough(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        memory.find(slid.kernel, enough)


def test_there_is_no_bar_where_there_is_no_terminal() -> None:
    assert not sys.stderr.isatty()
    assert pvops.memory.bar("searching") is None


def test_errors_name_the_file_and_are_one_hierarchy(slid: Slid, tmp_path: Path) -> None:
    core = tmp_path / "core"
    core.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x04\0\x3e\0" + bytes(20))
    with pytest.raises(DumpError, match="truncated") as caught:
        pvops.memory.open(core)
    assert caught.value.file == str(core)
    assert isinstance(caught.value, Error)
    core.write_bytes(b"KDUMP   " + bytes(4096))
    with pytest.raises(DumpError, match=r"header: does not say, where a 64-bit or a 32-bit kernel does"):
        pvops.memory.open(core)
    with pytest.raises(InputError, match="No such file"):
        pvops.memory.open(tmp_path / "absent")
    with pytest.raises(InputError, match="is a directory"):
        pvops.memory.open(tmp_path)
    with pytest.raises(DumpError, match=r"no section \.nowhere"):
        pvops.memory.open(slid.text).find(slid.kernel).section(".nowhere")


@pytest.mark.skipif(os.access(KCORE, os.R_OK), reason="the memory of this kernel can be read")
def test_where_the_live_kernel_cannot_be_read_the_error_names_the_file() -> None:
    with pytest.raises(InputError) as caught:
        pvops.memory.live()
    assert caught.value.file == str(KCORE)


@pytest.mark.skipif(not os.access(KCORE, os.R_OK), reason="takes root and /proc/kcore")
def test_the_live_kernel_is_memory() -> None:
    memory = pvops.memory.live()
    assert memory.kind == "live"


def test_the_running_kernels_image_is_looked_for_where_distributions_put_it() -> None:
    release = Path("/proc/sys/kernel/osrelease").read_text().strip()
    if any(path.is_file() for path in (Path(f"/boot/vmlinuz-{release}"), Path(f"/lib/modules/{release}/vmlinuz"))):
        assert release in pvops.memory.running_kernel()
    else:
        with pytest.raises(InputError, match=f"tried /boot/vmlinuz-{re.escape(release)}, "):
            pvops.memory.running_kernel()
