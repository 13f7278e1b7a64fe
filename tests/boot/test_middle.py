"""The machine in the middle: what it is made of, and what its QEMU is told. Needs no kernel."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from boot.middle import Middle, arguments, folders, libraries
from boot.modes import MORE, Mode

_MODE = Mode("kvm-real-max-smp2", "max", 2, "nopvspin", hypervisor="real-kvm")


def test_the_inner_machine_is_the_modes() -> None:
    words = arguments(Path("/usr/bin/qemu"), _MODE)
    told = {word: words[at + 1] for at, word in enumerate(words[:-1]) if word.startswith("-")}
    assert words[0] == "/usr/bin/qemu"
    assert (told["-accel"], told["-cpu"], told["-smp"]) == ("kvm", "max", "2")
    assert told["-append"] == _MODE.cmdline
    assert "nopvspin" in told["-append"]
    assert told["-machine"] == "pc,vmport=off"


@pytest.mark.parametrize(("leaves", "port"), [("kvm=off,hv-time", "off"), ("hv-vendor-id=VMwareVMware", "on")])
def test_leaves_are_flags_of_its_cpu_and_vmware_has_a_port(leaves: str, port: str) -> None:
    words = arguments(Path("qemu"), replace(_MODE, leaves=leaves))
    assert words[words.index("-cpu") + 1] == f"max,{leaves}"
    assert words[words.index("-machine") + 1] == f"pc,vmport={port}"


def test_folders_come_before_what_is_in_them() -> None:
    assert folders(["usr/lib/x/a.so", "guest"], "dev") == ["dev", "usr", "usr/lib", "usr/lib/x"]


def test_libraries_are_there_and_have_the_loader_among_them(tmp_path: Path) -> None:
    found = list(libraries(Path(sys.executable)))
    assert found
    assert all(path.exists() for path in found)
    script = tmp_path / "qemu"
    script.write_text("#!/bin/sh\n")
    with pytest.raises(RuntimeError, match="no program of this machine with shared libraries"):
        libraries(script)


def test_the_initial_file_system_has_all_of_it(tmp_path: Path) -> None:
    kernel, firmware = tmp_path / "vmlinuz", tmp_path / "firmware"
    kernel.write_bytes(b"the kernel")
    firmware.mkdir()
    for name in ("qboot.rom", "linuxboot_dma.bin", "linuxboot.bin", "kvmvapic.bin"):
        (firmware / name).write_bytes(b"rom")
    middle = Middle(kernel, [b"first", b"second"], b"its init", firmware)
    made = middle.archive(Path(sys.executable), kernel, b"the guest's", _MODE)
    places = [made.index(b"\0" + what) for what in (b"its init", b"the kernel", b"the guest's", b"first", b"second")]
    assert len(set(places)) == 5
    assert made.index(b"usr/share/qemu\0") < made.index(b"usr/share/qemu/qboot.rom\0")


def test_modes_of_real_kvm_are_by_hand_alone() -> None:
    real = [mode for mode in MORE if mode.hypervisor == "real-kvm"]
    assert {mode.processors for mode in real} == {1, 2}
    assert all(mode.scattered and not mode.under_xen for mode in real)
    assert len({mode.name for mode in MORE}) == len(MORE)
