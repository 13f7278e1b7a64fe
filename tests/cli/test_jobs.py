"""``--jobs``: how many work at once changes nothing of what is written."""

from __future__ import annotations

from pathlib import Path

import pytest

import pvops as package
from cli.run import pvops, trouble


@pytest.mark.parametrize("form", ["--json", "--jsonl", "--csv"])
def test_sites_are_the_same_from_one_thread_and_from_several(sample_kernel: Path, form: str) -> None:
    one, several = (pvops("sites", sample_kernel, form, "--jobs", jobs) for jobs in ("1", "3"))
    assert one.returncode == several.returncode == 0
    assert one.stdout == several.stdout != b""


def test_memory_is_judged_the_same_on_one_thread_and_on_several(sample_kernel: Path, tmp_path: Path) -> None:
    memory = tmp_path / "text"
    memory.write_bytes(package.open(sample_kernel).plan("kvm").apply())
    one, several, two = (
        pvops("verify", sample_kernel, *memories, "--json", "--jobs", jobs)
        for memories, jobs in (([memory], "1"), ([memory], "3"), ([memory, memory], "1"))
    )
    assert one.returncode == several.returncode == two.returncode == 0
    assert one.stdout == several.stdout != b""
    assert two.stdout.count(b'"verdict": "clean"') == 2


@pytest.mark.parametrize("command", ["sites", "verify"])
def test_nobody_works_where_no_job_is_wanted(sample_kernel: Path, command: str) -> None:
    memory = [sample_kernel] if command == "verify" else []
    assert trouble(command, sample_kernel, *memory, "--jobs", "0") == "pvops: --jobs 0: at least one is wanted"
