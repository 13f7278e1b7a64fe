"""What a command costs from start to end, beside what Python alone costs, in one run.

    python benches/startup.py

Processor time (user and system) of whole processes, the least of several rounds that alternate between the commands,
so that what else the machine does counts little. The images are the sample, which is built, and with `PVOPS_KERNELS` an
uncompressed Debian kernel. The command is the installed script where there is one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from support.given import RELEASE, kernel, payload, unpacked
from support.rounds import LIMIT, OURS, Job, measure, spent_by_children

ROUNDS = 15


def ended(command: list[str]) -> None:
    """Runs a command to its end, its output read from a pipe."""
    subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)


def started(image: Path, what: str) -> Job:
    """The commands on an image."""
    script = shutil.which("pvops", path=os.path.dirname(sys.executable))
    pvops = [script] if script else [sys.executable, "-m", "pvops"]
    sites = ["sites", str(image), "--table", "paravirt"]
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "pvops --help": [*pvops, "--help"],
        "pvops sites --table paravirt --no-names": [*pvops, *sites, "--no-names"],
        "pvops sites --table paravirt": [*pvops, *sites],
    }
    runs = {name: partial(ended, command) for name, command in commands.items()}
    roles = {name: OURS if name.startswith("pvops") else LIMIT for name in runs}
    return Job(f"start to end, {what}", runs, roles, clock=spent_by_children)


def jobs(folder: Path) -> Iterator[Job]:
    """What is compared."""
    sample = folder / "sample"
    ended([sys.executable, "-m", "pvops.sample", str(sample)])
    yield started(sample, "the sample")
    path = kernel()
    if path is not None:
        image = folder / "vmlinux"
        image.write_bytes(unpacked(payload(path.read_bytes())))
        yield started(image, f"vmlinux of {RELEASE}")


if __name__ == "__main__":
    measure(jobs, ROUNDS)
