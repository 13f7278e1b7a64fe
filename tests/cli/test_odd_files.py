"""Files that are cut short while they are read, have no end, or have the longest name there is."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

import pvops as package
from cli.run import pvops, trouble

#: Runs a command on a kernel that somebody cuts short once it is open.
_CUT = """
import os, sys
from pvops.cli import kernels, main
opened = kernels.open
def cut(path):
    kernel = opened(path)
    os.truncate(path, 4096)
    return kernel
kernels.open = cut
sys.exit(main(sys.argv[1:]))
"""


def test_a_kernel_that_is_cut_short_while_it_is_read_is_one_line(sample_kernel: Path, tmp_path: Path) -> None:
    for more in ([], ["--json"]):
        kernel = tmp_path / "kernel"
        kernel.write_bytes(sample_kernel.read_bytes())
        command = [sys.executable, "-c", _CUT, "sites", str(kernel), *more]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        said = f"{kernel}: was cut short while it was read"
        assert (done.returncode, done.stderr) == (2, f"pvops: {said}\n")
        assert (json.loads(done.stdout)["message"] if more else done.stdout) == (said if more else "")


@pytest.mark.parametrize("source", ["/dev/urandom", "/dev/zero"])
def test_a_stream_without_end_that_is_no_kernel_is_not_read_for_long(source: str) -> None:
    began = time.monotonic()
    assert trouble("sites", source).startswith(f"pvops: {source}: is ")
    assert time.monotonic() - began < 10


def test_the_longest_name_can_be_written_to(sample_kernel: Path, tmp_path: Path) -> None:
    out = tmp_path / ("n" * 255)
    for _ in range(2):
        assert pvops("patch", sample_kernel, "-o", out).returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_a_name_that_looks_like_an_option_is_told_how_to_write(
    sample_kernel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "-kernel").write_bytes(sample_kernel.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert trouble("sites", "-kernel").endswith("; the file -kernel is written ./-kernel (see pvops sites --help)")
    assert pvops("sites", "./-kernel", "--summary").returncode == 0
    assert "is written" not in trouble("sites", "-karnel")


def test_modules_are_not_looked_for_in_text_alone(sample_kernel: Path, tmp_path: Path) -> None:
    text = tmp_path / "text"
    package.open(sample_kernel).plan("kvm", machine="intel-haswell").save(text, "text")
    said = trouble("verify", str(sample_kernel), str(text), "--module", str(sample_kernel))
    assert said == f"pvops: {text}: is .text alone: there are no modules in it to judge"
