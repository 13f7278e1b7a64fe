"""What commands load: what they do not use would take longer than some of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pvops import sample

#: Modules of Python's own that no command about a kernel needs; each takes longer to import than a wing of ours.
UNUSED = ("typing", "dataclasses", "inspect", "json", "concurrent.futures", "asyncio", "logging", "subprocess", "html")


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("start") / "kernel"
    path.write_bytes(sample.build(era="6.12").elf)
    return path


@pytest.mark.parametrize(
    "words",
    ["sites {} --summary", "ops {}", "explain {} sample_lock", "patch {} -o /dev/null", "diff {} native kvm"],
)
def test_a_command_imports_none_of_what_it_does_not_use(kernel: Path, words: str) -> None:
    line = [sys.executable, "-X", "importtime", "-m", "pvops", *words.format(kernel).split()]
    done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    imported = {row.rpartition("|")[2].strip() for row in done.stderr.splitlines() if row.startswith("import time:")}
    assert "pvops.kernel" in imported
    assert imported.isdisjoint(UNUSED), imported.intersection(UNUSED)
