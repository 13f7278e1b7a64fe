"""``pvops patch``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import pvops as package
from cli.run import document, pvops, trouble


def test_writes_the_image_with_every_site_patched(sample_kernel: Path, tmp_path: Path) -> None:
    out = tmp_path / "patched"
    found = document("patch", sample_kernel, "--backend", "native", "-o", out)
    assert found["schema"] == "pvops.patch/1"
    assert found["writes"] == sum(found["kinds"].values()) == len(package.open(sample_kernel).sites)
    before, after = sample_kernel.read_bytes(), out.read_bytes()
    assert len(before) == len(after)
    patched = package.open(out)
    for site in package.open(sample_kernel).sites:
        now = patched.image.read(site.address, len(site.bytes))
        assert now is not None
        assert now != site.bytes


def test_text_is_the_text_section_alone(sample_kernel: Path, tmp_path: Path) -> None:
    out = tmp_path / "text"
    assert pvops("patch", sample_kernel, "--format", "text", "-o", out).returncode == 0
    kernel = package.open(sample_kernel)
    assert out.read_bytes() == kernel.plan("native").apply()
    assert len(out.read_bytes()) == next(s for n, _, s, _ in kernel.image.sections() if n == ".text")


def test_standard_output_gets_the_same_bytes(sample_kernel: Path, tmp_path: Path) -> None:
    out = tmp_path / "elf"
    assert pvops("patch", sample_kernel, "-o", out).returncode == 0
    assert pvops("patch", sample_kernel, "-o", "-").stdout == out.read_bytes()


def test_a_file_appears_whole_or_not_at_all(sample_kernel: Path, tmp_path: Path) -> None:
    out = tmp_path / "kept"
    out.write_text("as it was")
    assert "no backend" in trouble("patch", sample_kernel, "--backend", "nosuch", "-o", out)
    assert out.read_text() == "as it was"
    nowhere = tmp_path / "missing" / "out"
    assert str(nowhere) in trouble("patch", sample_kernel, "-o", nowhere)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["kept"]


def test_no_scratch_file_stays(sample_kernel: Path, tmp_path: Path) -> None:
    pvops("patch", sample_kernel, "-o", tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_link_stays_a_link_and_a_mode_stays_a_mode(sample_kernel: Path, tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to(target)
    assert pvops("patch", sample_kernel, "-o", link).returncode == 0
    assert link.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o640
    assert target.stat().st_size == sample_kernel.stat().st_size


def test_a_device_is_written_to_as_it_is(sample_kernel: Path) -> None:
    assert pvops("patch", sample_kernel, "-o", "/dev/null").returncode == 0
    assert not os.path.isfile("/dev/null")


def test_binary_never_goes_to_a_terminal(sample_kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from pvops.cli import main

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert main(["patch", str(sample_kernel), "-o", "-"]) == 2


def test_the_output_and_json_cannot_share_standard_output(sample_kernel: Path) -> None:
    done = pvops("patch", sample_kernel, "-o", "-", "--json")
    assert done.returncode == 2
    assert b"standard output" in done.stderr


def test_the_machines_own_hypervisor_is_the_default_backend(sample_kernel: Path, tmp_path: Path) -> None:
    machine = tmp_path / "guest.toml"
    machine.write_text('hypervisor = "kvm"\n')
    found = document("patch", sample_kernel, "--machine", machine, "-o", tmp_path / "out")
    assert found["backend"] == "kvm"


def test_a_backend_the_kernel_was_built_without_is_trouble(sample_kernel: Path, tmp_path: Path) -> None:
    said = trouble("patch", sample_kernel, "--backend", "xen", "-o", tmp_path / "out")
    assert "built without Xen PV" in said
