"""Opening a vmlinuz, and finding its symbols, beside what else does that: in one run.

    PVOPS_KERNELS=… python benches/opening.py

Who finds symbols must find the same, which is checked before anything is timed. Processor time, the least of rounds
that alternate between the tools, files in the page cache.
"""

from __future__ import annotations

import logging
import lzma
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from support.given import kernel, module, payload, tool
from support.rounds import OURS, PEER, Job, measure

import pvops

ROUNDS = 7


def unpacking(path: Path, folder: Path) -> Iterator[Job]:
    """From a vmlinuz to the ELF image in memory."""
    packed = payload(path.read_bytes())[:-4]
    alone = folder / "payload"
    alone.write_bytes(packed)
    runs: dict[str, Callable[[], object]] = {"pvops.open": lambda: pvops.open(path)}
    if packed.startswith(b"\xfd7zXZ\0"):
        runs["lzma of the standard library"] = lambda: lzma.LZMADecompressor().decompress(packed)
        command = ["xz", "-dc"]
    elif packed.startswith(b"\x28\xb5\x2f\xfd"):
        command = ["zstd", "-dcq"]
    else:
        raise SystemExit(f"{path.name}: neither xz nor zstd")
    if tool(command[0]):
        name = f"{command[0]} on the bare payload, output dropped"
        runs[name] = lambda: subprocess.run([*command, alone], stdout=subprocess.DEVNULL, check=True)
    yield Job(f"unpack {path.name}", runs, {name: OURS if name == "pvops.open" else PEER for name in runs})


def symbols(path: Path) -> Iterator[Job]:
    """From a vmlinuz to the symbols of its kallsyms: what `vmlinux-to-elf` does before it writes its ELF file."""
    kallsyms, unpack = module("vmlinux_to_elf.core.kallsyms"), module("vmlinux_to_elf.core.auto_unpack")
    if kallsyms is None:
        return
    logging.disable()  # it tells every step

    def by_pvops() -> pvops.Kernel:
        opened = pvops.open(path)
        opened.image.symbol_count()  # which looks for them
        return opened

    def by_vmlinux_to_elf() -> Any:
        return kallsyms.KallsymsFinder(unpack.VmlinuzDecompressor(path.read_bytes()).decompressed)

    def check() -> None:
        theirs, image = by_vmlinux_to_elf(), by_pvops().image
        found = list(zip(theirs.kernel_addresses, (name[1:] for name in theirs.symbol_names), strict=True))
        if len(found) != image.symbol_count():
            raise SystemExit(f"vmlinux-to-elf finds {len(found):,} symbols, we {image.symbol_count():,}")
        wrong = [name for address, name in found if address not in image.addresses_of(name)]
        if wrong:
            raise SystemExit(f"vmlinux-to-elf has {wrong[0]} and {len(wrong) - 1:,} more elsewhere")

    runs: dict[str, Callable[[], object]] = {
        "pvops": by_pvops,
        "vmlinux-to-elf, no ELF written": by_vmlinux_to_elf,
    }
    roles = {name: OURS if name == "pvops" else PEER for name in runs}
    yield Job(f"unpack {path.name}, find its symbols", runs, roles, check=check)


def jobs(folder: Path) -> Iterator[Job]:
    """What is compared."""
    path = kernel()
    if path is not None:
        yield from unpacking(path, folder)
        yield from symbols(path)


if __name__ == "__main__":
    measure(jobs, ROUNDS)
