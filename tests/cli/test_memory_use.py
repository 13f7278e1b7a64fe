"""How much memory the listing of a real kernel takes, beside the unpacked image."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kernels.given import given
from pvops.kernel import Kernel

RELEASE = "6.12.117+deb12-amd64"

#: Starts a command and prints what it had resident at most, in KiB. In a process of its own, which has little: a child
#: counts as its own what its parent had when it started.
MEASURE = """
import os, sys
null = os.open(os.devnull, os.O_WRONLY)
actions = [(os.POSIX_SPAWN_DUP2, null, 1)]
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=actions)
_, status, usage = os.wait4(child, 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def resident(*words: str | Path) -> int:
    """The most memory that a command had resident, in bytes."""
    command = [sys.executable, "-c", MEASURE, sys.executable, "-m", "pvops", *map(str, words)]
    done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return int(done.stdout) * 1024


@pytest.fixture(scope="module")
def unpacked(kernel: Callable[[str], Kernel]) -> int:
    """The size of the unpacked kernel in bytes."""
    return len(kernel(RELEASE).plan("native").image())


def test_listing_every_site_takes_little_more_than_the_image(unpacked: int) -> None:
    path = given(f"kernels/vmlinuz-{RELEASE}")
    for form in ("--json", "--jsonl", "--csv"):
        assert resident("sites", path, form) <= 1.3 * unpacked + (64 << 20), form
