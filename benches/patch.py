"""What ``pvops patch --format text`` costs on an lz4 kernel, beside unpacking it with ``lz4`` alone, in one run.

    PVOPS_KERNELS=… python benches/patch.py

The payload of a kernel in ``$PVOPS_KERNELS/kernels`` is packed again with ``lz4 -l``, as a kernel build packs it, and
put into a copy of its bzImage. Goals: processor time of at most 8 times ``lz4 -dc`` of the payload, and the start of
Python on top; memory of at most twice the unpacked image. Processor time (user and system) is the least of several
rounds that alternate between the commands; memory is the most that any round had resident.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from support.given import RELEASE, kernel, tool
from support.packed import repacked
from support.rounds import LIMIT, OURS, PEER, Job, compare, spent_by_children

ROUNDS = 9
TIMES, MEMORY = 8.0, 2.0
START, LZ4, PATCH = "python -c pass", "lz4 -dc", "pvops patch --format text"


def run(command: list[str], resident: dict[str, int], name: str) -> None:
    """Runs a command, its output read from a pipe, and notes the most memory it had, in bytes."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        while process.stdout.read(1 << 16):
            pass
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}")
    resident[name] = max(resident.get(name, 0), usage.ru_maxrss * 1024)


def same_text(commands: list[list[str]]) -> bool:
    """Whether these commands print the same."""
    first, *rest = (
        subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout
        for command in commands
    )
    return all(other == first for other in rest)


def prepared(folder: Path, resident: dict[str, int]) -> tuple[Job, int] | None:
    """The job, which notes memory, and the size of the unpacked image."""
    path = kernel()
    if path is None or tool("lz4") is None:
        return None
    facts = path.parents[1] / "boots" / f"{RELEASE}~native-max-smp2.facts"
    patch = [sys.executable, "-m", "pvops", "patch"]
    options = ["--machine", str(facts), "--format", "text", "-o", "-"]
    # In a process of its own: a child counts as its own what its parent had resident when it started.
    with ProcessPoolExecutor(1) as pool:
        packed = pool.submit(repacked, path, "lz4", folder).result()
    whole = packed.path

    def check() -> None:
        with ProcessPoolExecutor(1) as pool:
            if not pool.submit(same_text, [[*patch, str(of), *options] for of in (path, whole)]).result():
                raise SystemExit(f"{RELEASE}: the repacked kernel has another text")

    commands = {
        START: [sys.executable, "-c", "pass"],
        LZ4: packed.unpack,
        PATCH: [*patch, str(whole), *options],
    }
    runs = {name: partial(run, command, resident, name) for name, command in commands.items()}
    roles = {START: LIMIT, LZ4: PEER, PATCH: OURS}
    return Job(f"patch an lz4 kernel, {RELEASE}", runs, roles, spent_by_children, check), packed.size


def jobs(folder: Path) -> Iterator[Job]:
    """What is compared."""
    found = prepared(folder, {})
    if found:
        yield found[0]


def main() -> None:
    """Measures, and prints how the goals are kept."""
    resident: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        found = prepared(Path(folder), resident)
        if found is None:
            return
        job, size = found
        seconds = compare(job, ROUNDS)
    times = (seconds[PATCH] - seconds[START]) / seconds[LZ4]
    print(f"  {size / 1e6:.1f} MB unpacked, {resident[PATCH] / 1e6:.1f} MB resident at most")
    print(f"  (patch - python) / lz4       {times:8.2f}     goal {TIMES:g}")
    print(f"  memory / unpacked            {resident[PATCH] / size:8.2f}     goal {MEMORY:g}")


if __name__ == "__main__":
    main()
