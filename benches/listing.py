"""The paravirt sites of an uncompressed image, listed beside what else does that from Python, in one run.

    PVOPS_KERNELS=… python benches/listing.py

Every peer must come to the same list, which is checked before anything is timed. Most read the table, and decode what
stands at each row; objdump knows no table: it disassembles all of the code, and its reader picks the calls through
`pv_ops`, whose address it is given. Processor time, the least of rounds that alternate; what takes seconds runs once.
"""

from __future__ import annotations

import re
import struct
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from support.given import kernel, module, payload, tool, unpacked
from support.rounds import OURS, PEER, Job, measure

import pvops

ROUNDS = 7

#: (address, bytes of the branch, type) of a site.
Found = list[tuple[int, int, int]]
#: The table, and (address, bytes) of each section with code.
Sections = tuple[bytes, list[tuple[int, bytes]]]


def by_pvops(path: Path) -> Found:
    """Ours, which also holds every row to every layout and decodes every site."""
    table = pvops.open(path).paravirt
    assert table is not None
    return [(row[0], row[3], row[2]) for row in table.rows()]


def rows_of(data: bytes) -> Found:
    """The rows of ``.parainstructions`` as 6.1 lays them down."""
    data += bytes(-len(data) % 16)
    return [(address, length, type_) for address, type_, length, _ in struct.iter_unpack("<QBBH4x", data)]


def sections_by_elftools(path: Path) -> Sections:
    """The table and the code, read with pyelftools."""
    with path.open("rb") as file:
        elf = module("elftools.elf.elffile").ELFFile(file)
        code = [
            (section["sh_addr"], section.data())
            for section in elf.iter_sections()
            if section["sh_flags"] & 4 and section["sh_type"] == "SHT_PROGBITS"
        ]
        return elf.get_section_by_name(".parainstructions").data(), code


def sections_by_lief(path: Path) -> Sections:
    """The same with LIEF."""
    elf = module("lief").ELF.parse(str(path))
    code = [(s.virtual_address, bytes(s.content)) for s in elf.sections if int(s.flags) & 4]
    return bytes(elf.get_section(".parainstructions").content), code


def checked_by(sections: Callable[[Path], Sections], length_of: Callable[[bytes, int], int]) -> Callable[[Path], Found]:
    """A peer that reads the sections one way and decodes each site another."""

    def found(path: Path) -> Found:
        table, code = sections(path)
        out = []
        for address, length, type_ in rows_of(table):
            start, data = next(c for c in code if c[0] <= address < c[0] + len(c[1]))
            at = address - start
            if length_of(data[at : at + length], address) != length:
                raise SystemExit(f"{address:#x}: no instruction of {length} bytes")
            out.append((address, length, type_))
        return out

    return found


def undecoded(code: bytes, _: int) -> int:
    """No decoder: the row is believed."""
    return len(code)


def by_iced(code: bytes, address: int) -> int:
    """The length of an instruction, as iced-x86 decodes it."""
    return sum(insn.len for insn in module("iced_x86").Decoder(64, code, ip=address))


def by_capstone() -> Callable[[bytes, int], int]:
    """The same of capstone."""
    capstone = module("capstone")
    engine: Any = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    return lambda code, address: sum(size for _, size, _, _ in engine.disasm_lite(code, address))


CALL = re.compile(r"\s*([0-9a-f]+):\t((?:[0-9a-f]{2} )+)\s*\tcall.*# (?:0x)?([0-9a-f]+)")


def by_objdump(ops: range, path: Path) -> Found:
    """Every call through a word of `pv_ops` in what objdump prints; ``grep`` reads it, Python what is left."""
    listed = subprocess.Popen(["objdump", "-d", path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    calls = subprocess.run(
        ["grep", "-F", "(%rip)        # "], stdin=listed.stdout, stdout=subprocess.PIPE, env={"LC_ALL": "C"}
    )
    listed.wait()
    out = []
    for line in calls.stdout.decode().splitlines():
        call = CALL.match(line)
        if call and (target := int(call[3], 16)) in ops:
            out.append((int(call[1], 16), len(call[2].split()), (target - ops.start) // 8))
    return out


def jobs(folder: Path) -> Iterator[Job]:
    """What is compared."""
    packed = kernel()
    if packed is None:
        return
    path = folder / "vmlinux"
    path.write_bytes(unpacked(payload(packed.read_bytes())))
    table = pvops.open(path).paravirt
    assert table is not None
    wanted = by_pvops(path)
    ops = range(table.ops_address(), table.ops_address() + 8 * 256, 8)

    peers: dict[str, Callable[[Path], Found]] = {}
    elftools, lief, iced = (module(name) for name in ("elftools.elf.elffile", "lief", "iced_x86"))
    if elftools:
        peers["pyelftools, no decoder"] = checked_by(sections_by_elftools, undecoded)
        if iced:
            peers["pyelftools + iced-x86"] = checked_by(sections_by_elftools, by_iced)
        if module("capstone"):
            peers["pyelftools + capstone"] = checked_by(sections_by_elftools, by_capstone())
    if lief and iced:
        peers["LIEF + iced-x86"] = checked_by(sections_by_lief, by_iced)
    if tool("objdump"):
        peers["objdump -d of all code, and grep"] = partial(by_objdump, ops)

    def check() -> None:
        for name, peer in peers.items():
            if sorted(peer(path)) != sorted(wanted):
                raise SystemExit(f"{name} lists other sites")

    runs: dict[str, Callable[[], object]] = {"pvops": lambda: by_pvops(path)}
    runs |= {name: partial(peer, path) for name, peer in peers.items()}
    roles = {name: OURS if name == "pvops" else PEER for name in runs}
    yield Job(f"list {len(wanted):,} paravirt sites, each decoded", runs, roles, check=check)


if __name__ == "__main__":
    measure(jobs, ROUNDS)
