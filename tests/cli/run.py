"""Runs the command as a user does: another process, pipes on both sides."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def pvops(*args: str | Path, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """``pvops ARGS``, with these bytes on standard input."""
    command = [sys.executable, "-m", "pvops", *map(str, args)]
    return subprocess.run(
        command, input=stdin, stdin=None if stdin is not None else subprocess.DEVNULL, capture_output=True, check=False
    )


def document(*args: str | Path) -> Any:
    """The JSON document a command prints; it must succeed."""
    done = pvops(*args, "--json")
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def trouble(*args: str | Path, stdin: bytes | None = None) -> str:
    """The one line on stderr of a command that fails; nothing may be on stdout."""
    done = pvops(*args, stdin=stdin)
    assert done.returncode == 2, done.stdout.decode() + done.stderr.decode()
    assert done.stdout == b""
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 1, lines
    return lines[0]
