"""The program of docs/for-intel-pt.md decodes a trace with the text that ran, and is lost with the text of the file."""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kernels import given

PAGE = Path(__file__).parents[2] / "docs" / "for-intel-pt.md"
RELEASE = "6.1.0-56-amd64"


def test_the_page_prints_what_the_decoder_says(tmp_path: Path) -> None:
    try:
        ctypes.CDLL("libipt.so.2")
    except OSError:
        pytest.skip("no libipt.so.2 (Debian: libipt2)")
    image = given.given(f"kernels/vmlinuz-{RELEASE}")
    (tmp_path / f"vmlinuz-{RELEASE}").symlink_to(image)
    found = re.search(r"```python\n(import ctypes\n.*?)```\n\n```text\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    program, shown = found.groups()
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, text=True, capture_output=True, check=True)
    assert done.stdout == shown
    ran, built = shown.split("text.built\n")
    assert "do_syscall_64+0x0" in ran
    assert "do_syscall_64" not in built
