"""Instructions of jobs on a made image, by callgrind: what a busy machine does not change.

    python tests/bench/instructions.py       records what `test_instructions.py` holds later versions to

All jobs run in one process, each once before it counts. Between them stands a call of getppid(), where callgrind writes
down what it has counted. The image is made here, so that no kernel is needed: it has thousands of sites of ops.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

RECORD = Path(__file__).with_name("instructions.json")

#: Functions of the image, each with some sites.
FUNCTIONS = 800

#: Job → what it does with an open `kernel`, its bytes `image`, and memory of it: `text` as built, or `changed`.
JOBS: Mapping[str, str] = {
    "open an image and read its tables": "_core.Tables.read(_core.Image.from_bytes('image', image))",
    "group the sites and count them": "kernel.sites.of_table('alternatives').counts()",
    "write all rows as JSON": "for piece in kernel.sites.columns.written('json'): pass",
    "plan a boot and apply it": "kernel.plan('kvm').apply()",
    "plan what touches a function, and what may be otherwise": (
        "kernel.plan('kvm', places=kernel.places('made_7')).undetermined_bytes"
    ),
    "plan what touches a function where ITS is": (
        "kernel.plan('native', machine='intel-icelake-server', places=kernel.places('made_7'))"
    ),
    "judge memory": "kernel.verify(changed)",
    "judge the same memory again": "kernel.verify(text)",
}
_HEAD = """
import os, sys
import pvops.kernel
from pvops import _core
image = open(sys.argv[1], "rb").read()
kernel = pvops.kernel.open(image)
address, size = next((a, s) for name, a, s, _ in kernel.image.sections() if name == ".text")
text = kernel.image.read(address, size)
# What is not clean is judged anew each time.
changed = text[:-1] + bytes([text[-1] ^ 1])
"""


def interpreter() -> str:
    """What instructions depend on beside the package: ``CPython 3.11, x86_64``."""
    version = ".".join(platform.python_version_tuple()[:2])
    return f"{platform.python_implementation()} {version}, {platform.machine()}"


def image(path: Path) -> None:
    """Writes the image."""
    from pvops import sample

    ops = ("pv_irq_ops.save_fl", "pv_irq_ops.irq_disable", "pv_mmu_ops.make_pte", "pv_cpu_ops.io_delay")
    callers = {**sample.CALLERS, **{f"made_{number}": ops for number in range(FUNCTIONS)}}
    path.write_bytes(sample.build(era="6.12", callers=callers).elf)


def script() -> str:
    """What the process does."""
    jobs = [f"def job_{number}():\n    {job}" for number, job in enumerate(JOBS.values())]
    runs = [f"job_{number}()\nos.getppid()\njob_{number}()\nos.getppid()" for number in range(len(JOBS))]
    return "\n".join([_HEAD, *jobs, *runs])


def counted(folder: Path) -> dict[str, int]:
    """The instructions of each job. Files are made in the folder."""
    image(folder / "image")
    python = [sys.executable, "-X", f"pycache_prefix={folder / 'compiled'}", "-c", script(), str(folder / "image")]
    # Hashes of strings are by chance otherwise, and with them the order of look-ups.
    env = {"PATH": "/usr/bin:/bin", "PYTHONHASHSEED": "0", "PYTHONPATH": ":".join(filter(None, sys.path))}
    subprocess.run(python, env=env, check=True)  # compiles what is imported
    words = ["valgrind", "--tool=callgrind", "--dump-before=getppid", f"--callgrind-out-file={folder / 'out'}"]
    subprocess.run([*words, *python], env=env, check=True, stderr=subprocess.PIPE)
    # Of the parts that were written the second, fourth, … are the jobs.
    totals = [_total(folder / f"out.{2 * number + 2}") for number in range(len(JOBS))]
    return dict(zip(JOBS, totals, strict=True))


def _total(part: Path) -> int:
    found = re.search(r"^totals: (\d+)", part.read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"{part}: callgrind counted nothing")
    return int(found[1])


def main() -> None:
    """Counts every job and writes the record."""
    with tempfile.TemporaryDirectory() as folder:
        counts = counted(Path(folder))
    RECORD.write_text(json.dumps({"interpreter": interpreter(), "instructions": counts}, indent=1) + "\n")
    for job, count in counts.items():
        print(f"{job:<40} {count:>15,}")


if __name__ == "__main__":
    main()
