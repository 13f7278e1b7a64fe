"""The harness itself: what it compares, what it waits for, and that it leaves nothing behind. Needs no QEMU."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from boot import guest, modes
from boot.compare import Open, compare, compare_at, differences, open_sites
from boot.guest import BootError, Guest
from boot.initramfs import Entry, archive
from boot.modes import Mode

_AT = 0xFFFF_FFFF_8100_0000
_MODE = Mode("native-max-smp1", "max", 1)


# Comparing


def test_equal_but_for_open_sites() -> None:
    predicted, memory = bytes(8192), bytearray(8192)
    memory[5000:5002] = b"\x66\x90"
    sites = [Open(_AT + 5000, 2, ("0000", "6690")), Open(_AT + 6000, 2, ("eb00", "0000"))]
    found = compare(predicted, bytes(memory), _AT, sites, lambda _: False)
    assert (found.compared, found.undetermined, found.sites, found.first) == (8188, 4, 2, 1)
    assert not found.wrong
    assert not found.other
    assert str(found) == (
        "8,188 of 8,188 bytes equal; 4 undetermined at 2 sites, 0 of them in no listed form; "
        "first guess right at 1, 50.00 %"
    )


def test_every_wrong_byte_is_told() -> None:
    memory = bytearray(8192)
    memory[0] = memory[3] = memory[100] = memory[8191] = 1
    found = compare(bytes(8192), bytes(memory), _AT, [], lambda _: False)
    assert [(run.address - _AT, len(run.memory)) for run in found.wrong] == [(0, 4), (100, 1), (8191, 1)]
    assert found.wrong_bytes == 4
    assert str(found.wrong[1]) == "0xffffffff81000064: predicted 00, memory 01"


def test_a_form_that_is_not_listed_is_told() -> None:
    found = compare(bytes(8), b"\xcc\xcc" + bytes(6), _AT, [Open(_AT, 2, ("6690", "0000"))], lambda _: False)
    assert not found.wrong
    assert [str(run) for run in found.other] == ["0xffffffff81000000: predicted 00 00, memory cc cc"]


@pytest.mark.parametrize(
    ("held", "admitted"),
    [
        ("e8fb0f0000", True),  # to 0x1000 further on, where a function begins
        ("e8fc0f0000", False),
        ("e9fb0f0000", False),
        ("e8fbefffff", False),
        ("0f1f440000", True),
    ],
)
def test_a_branch_left_open_goes_to_a_function(held: str, admitted: bool) -> None:
    site = Open(_AT, 5, ("e8????????", "0f1f440000"))
    assert site.admits(bytes.fromhex(held), lambda target: target == _AT + 0x1000) == admitted


def test_only_the_places_asked_for() -> None:
    memory = bytes(4) + b"\x01" * 4
    assert not compare_at(bytes(8), memory, _AT, [(_AT, 4)]).wrong
    assert compare_at(bytes(8), memory, _AT, [(_AT, 2), (_AT + 3, 2)]).wrong_bytes == 1


def test_texts_of_two_lengths_are_an_error() -> None:
    with pytest.raises(ValueError, match="7 bytes predicted, 8 in memory"):
        list(differences(bytes(7), bytes(8), _AT))


def test_open_sites_come_by_address() -> None:
    rows = [
        {"address": hex(_AT + 8), "len": 2, "forms": ["6690", "eb10"]},
        {"address": hex(_AT), "len": 1, "forms": ["f0", "3e"]},
    ]
    sites = open_sites({"undetermined": {"bytes": 3, "sites": rows}}, _AT, 16)
    assert sites == [Open(_AT, 1, ("f0", "3e")), Open(_AT + 8, 2, ("6690", "eb10"))]
    assert open_sites({}, _AT, 16) == []


@pytest.mark.parametrize(
    ("total", "row", "why"),
    [
        (2, {"address": hex(_AT), "len": 2, "forms": ["66"]}, "forms"),
        (2, {"address": hex(_AT), "len": 2, "forms": []}, "forms"),
        (2, {"address": hex(_AT - 1), "len": 2, "forms": ["6690"]}, "outside"),
        (2, {"address": hex(_AT + 15), "len": 2, "forms": ["6690"]}, "outside"),
        (3, {"address": hex(_AT), "len": 2, "forms": ["6690"]}, "3 bytes undetermined"),
    ],
)
def test_a_document_that_contradicts_itself(total: int, row: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        open_sites({"undetermined": {"bytes": total, "sites": [row]}}, _AT, 16)


# The initial file system


@pytest.mark.skipif(shutil.which("cpio") is None, reason="no cpio to compare with: `apt install cpio`")
def test_cpio_reads_the_archive() -> None:
    made = archive([Entry("folder", 0o040755), Entry("file", 0o100644, b"12345"), Entry("end", 0o100600)])
    done = subprocess.run(["cpio", "-t", "--quiet"], input=made, capture_output=True, timeout=10, check=True)
    assert done.stdout.decode().split() == ["folder", "file", "end"]


def test_an_archive_byte_for_byte() -> None:
    header = "070701" + "00000001" + "000081A4" + "00000000" * 2 + "00000001" + "00000000" + "00000003"
    header += "00000000" * 4 + "00000002" + "00000000"
    assert archive([Entry("f", 0o100644, b"abc")]).startswith(header.encode() + b"f\0" + b"abc\0" + b"070701")


# Which machines


def test_modes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PVOPS_BOOT_MODES", raising=False)
    assert [mode.processors for mode in modes.chosen()] == [1, 2]
    monkeypatch.setenv("PVOPS_BOOT_MODES", "native-haswell-smp2, native-max-smp1")
    assert [mode.cpu for mode in modes.chosen()] == ["Haswell", "max"]
    monkeypatch.setenv("PVOPS_BOOT_MODES", "all")
    every = [mode.name for kaslr in (False, True) for mode in modes.chosen(kaslr=kaslr)]
    assert len(set(every)) == len(every) == len(modes.USUAL) + len(modes.MORE)
    monkeypatch.setenv("PVOPS_BOOT_MODES", "natve")
    with pytest.raises(ValueError, match="no mode natve; there are native-max-smp1"):
        modes.chosen()


# A QEMU that does not do what it should


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the harness puts its files: an empty folder."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(guest, "QUIT_SECONDS", 0.2)
    return folder


def _qemu(folder: Path, script: str) -> Path:
    """A QEMU that greets and then does something else; ``$console`` and ``$qmp`` are its console and its monitor."""
    path = folder / "qemu"
    path.write_text(
        f"""#!/bin/bash
echo $$ > {folder}/pid
for word; do
    case $word in
        file:*console) console=${{word#file:}};;
        socket,id=qmp,fd=*) qmp=${{word##*=}};;
    esac
done
greet() {{ echo '{{"QMP": {{}}}}' >&$qmp; read -r <&$qmp; echo '{{"return": {{}}}}' >&$qmp; }}
{script}
"""
    )
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (
            "echo 'bad model' >&2; exit 1",
            r"ended before it gave its greeting\nlast lines of the errors:\n  .*bad model",
        ),
        ("exec sleep 100", r"did not give its greeting"),
        (
            "greet; echo one >$console; exit 3",
            r"ended by itself with status 3\n(.*\n)*last lines of the console:\n  one",
        ),
        ("greet; echo 'Kernel panic - not syncing' >$console; exec sleep 100", r"the kernel panicked\n"),
        (
            "greet; seq 100 >$console; exec sleep 100",
            r"not ready after \d+ s\n(.*\n)*last lines of the console:\n  86\n",
        ),
    ],
)
def test_nothing_is_waited_for_in_vain_or_left_behind(script: str, why: str, tmp_path: Path, temporary: Path) -> None:
    began = time.monotonic()
    with (
        pytest.raises(BootError, match=why) as error,
        Guest(_qemu(tmp_path, script), Path("vmlinuz-1"), b"", _MODE, seconds=1) as guest,
    ):
        guest.facts()
    assert str(error.value).startswith("vmlinuz-1, native-max-smp1: ")
    assert time.monotonic() - began < 15
    assert not list(temporary.iterdir())
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()


def test_a_test_that_fails_ends_the_guest(tmp_path: Path, temporary: Path) -> None:
    qemu = _qemu(tmp_path, "greet; exec sleep 100")
    with pytest.raises(KeyboardInterrupt), Guest(qemu, Path("vmlinuz-1"), b"", _MODE, seconds=5):
        raise KeyboardInterrupt
    assert not list(temporary.iterdir())
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()


def test_a_missing_qemu_leaves_nothing(temporary: Path) -> None:
    with (
        pytest.raises((BootError, FileNotFoundError)),
        Guest(Path("/nowhere"), Path("vmlinuz-1"), b"", _MODE, seconds=1),
    ):
        pass
    assert not list(temporary.iterdir())


def test_addresses_outside_the_image_are_refused(tmp_path: Path, temporary: Path) -> None:
    qemu = _qemu(tmp_path, "greet; exec sleep 100")
    with (
        Guest(qemu, Path("vmlinuz-1"), b"", _MODE, seconds=5) as started,
        pytest.raises(ValueError, match="no address of a kernel's image"),
    ):
        started.memory(0x40_0000, 16)
