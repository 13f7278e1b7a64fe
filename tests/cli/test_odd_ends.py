"""Who is left when a command is killed."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path


def test_workers_end_with_who_is_killed() -> None:
    words = ["lock", "simulate", "--jobs", "2", "--duration", "1000", "--vcpus", "64", "65", "66"]
    command = [sys.executable, "-m", "pvops", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        deadline = time.monotonic() + 60
        while len(workers := _children(process.pid)) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)  # until they work
        process.kill()
    assert len(workers) == 2
    while any(map(_alive, workers)):
        assert time.monotonic() < deadline, "they go on"
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    """Whether there is such a process, and it has not ended: nobody may have asked for its status yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
