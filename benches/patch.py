"""What ``pvops patch --format text`` costs on an lz4 kernel, beside unpacking it with ``lz4`` alone, in one run.

    PVOPS_KERNELS=… python benches/patch.py [RELEASE …]

The payload of a kernel in ``$PVOPS_KERNELS/kernels`` is packed again with ``lz4 -l``, as a kernel build packs it, and
put into a copy of its bzImage. Limits: processor time of at most 8 times ``lz4 -dc`` of the payload, and the start of
Python on top; memory of at most twice the unpacked image. Processor time (user and system) is the least of several
rounds that alternate between the commands; memory is the most that any round had resident.
"""

from __future__ import annotations

import lzma
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from support.rounds import LIMIT, OURS, PEER, report

ROUNDS = 9
TIMES, MEMORY = 8.0, 2.0

# The setup header (Documentation/arch/x86/boot.rst).
SETUP_SECTS, PAYLOAD_OFFSET = 0x1F1, 0x248


@dataclass
class Cost:
    """The least time of the runs of a command, and the most memory."""

    seconds: float = float("inf")
    resident: int = 0


def measure(command: list[str], cost: Cost) -> None:
    """Runs a command once, its output read from a pipe, and notes what it cost."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        while process.stdout.read(1 << 16):
            pass
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}")
    cost.seconds = min(cost.seconds, usage.ru_utime + usage.ru_stime)
    cost.resident = max(cost.resident, usage.ru_maxrss * 1024)


def tool(*command: str, given: bytes) -> bytes:
    """What a filter makes of these bytes."""
    if shutil.which(command[0]) is None:
        raise SystemExit(f"{command[0]} is missing: `apt install {command[0]}`")
    return subprocess.run(command, input=given, stdout=subprocess.PIPE, check=True).stdout


def unpacked(payload: bytes) -> bytes:
    """The ELF image a payload holds, and the relocations behind it."""
    if payload.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMADecompressor().decompress(payload)
    if payload.startswith(b"\x28\xb5\x2f\xfd"):
        return tool("zstd", "-dcq", given=payload[:-4])
    raise SystemExit("neither an xz nor a zstd kernel")


def repack(kernel: Path, folder: Path) -> tuple[Path, Path, int]:
    """A bzImage with an lz4 payload, that payload alone, and the size of what it unpacks to."""
    image = bytearray(kernel.read_bytes())
    start = (image[SETUP_SECTS] + 1) * 512
    offset, length = struct.unpack_from("<II", image, PAYLOAD_OFFSET)
    raw = unpacked(bytes(image[start + offset : start + offset + length]))
    packed = tool("lz4", "-l", "-9", "-c", given=raw)
    alone = folder / f"{kernel.name}.lz4"
    alone.write_bytes(packed)
    # A payload ends with the size of what it unpacks to. This one goes behind all that was there.
    packed += struct.pack("<I", len(raw))
    struct.pack_into("<II", image, PAYLOAD_OFFSET, len(image) - start, len(packed))
    whole = folder / kernel.name
    whole.write_bytes(image + packed)
    return whole, alone, len(raw)


def same_text(commands: list[list[str]]) -> bool:
    """Whether these commands print the same."""
    first, *rest = (
        subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout
        for command in commands
    )
    return all(other == first for other in rest)


def compare(root: Path, release: str, folder: Path) -> bool:
    """Measures and prints for one kernel; whether it keeps the limits."""
    kernel = root / "kernels" / f"vmlinuz-{release}"
    facts = root / "boots" / f"{release}~native-max-smp2.facts"
    patch = [sys.executable, "-m", "pvops", "patch"]
    options = ["--machine", str(facts), "--format", "text", "-o", "-"]
    # In a process of its own: a child counts as its own what its parent had resident when it started.
    with ProcessPoolExecutor(1) as pool:
        whole, alone, size = pool.submit(repack, kernel, folder).result()
        if not pool.submit(same_text, [[*patch, str(of), *options] for of in (kernel, whole)]).result():
            raise SystemExit(f"{release}: the repacked kernel has another text")
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "lz4 -dc": ["lz4", "-dc", str(alone)],
        "pvops patch --format text": [*patch, str(whole), *options],
    }
    costs = {name: Cost() for name in commands}
    for _ in range(ROUNDS):
        for name, command in commands.items():
            measure(command, costs[name])
    start, lz4, pvops = costs.values()
    limit = TIMES * lz4.seconds + start.seconds
    print(f"{release}: processor time, least of {ROUNDS} rounds; most memory; {size / 1e6:.1f} MB unpacked")
    for name, cost in costs.items():
        print(f"  {name:<28} {cost.seconds * 1e3:8.1f} ms  {cost.resident / 1e6:7.1f} MB")
    roles = dict(zip(costs, (LIMIT, PEER, OURS), strict=True))
    report(f"patch an lz4 kernel, {release}", {name: cost.seconds for name, cost in costs.items()}, roles)
    print(f"  (patch - python) / lz4       {(pvops.seconds - start.seconds) / lz4.seconds:8.2f}     limit {TIMES:g}")
    print(f"  memory / unpacked            {pvops.resident / size:8.2f}     limit {MEMORY:g}")
    return pvops.seconds <= limit and pvops.resident <= MEMORY * size


def main() -> None:
    """Measures, and fails where a limit is broken."""
    root = os.environ.get("PVOPS_KERNELS")
    if root is None:
        print("skipped: PVOPS_KERNELS is not set")
        return
    releases = sys.argv[1:] or ["6.1.0-56-amd64"]
    with tempfile.TemporaryDirectory() as folder:
        kept = [compare(Path(root), release, Path(folder)) for release in releases]
    if not all(kept):
        raise SystemExit("a limit is broken")


if __name__ == "__main__":
    main()
