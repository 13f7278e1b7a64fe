"""The jobs of the package beside what else does them from Python, in one run: unpacking, listing sites, rewriting them.

    PVOPS_KERNELS=… python benches/peers.py [RELEASE]

Every peer must come to the same answer, which is checked before anything is timed; where one does less, its name says
so. All peers but the standard library's are the extra ``bench``; those that are missing are named and left out. Jobs
are timed in rounds that alternate between the tools: processor time, the least of all rounds, files in the page cache.
"""

from __future__ import annotations

import importlib
import lzma
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from support.rounds import LIMIT, OURS, PEER, least, report

import pvops

RELEASE = "6.1.0-56-amd64"
ROUNDS = 7

#: (address, bytes of the branch, type) of a site.
Found = list[tuple[int, int, int]]


def module(name: str) -> ModuleType | None:
    """A peer, or None, said on stderr, where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        print(f"missing: {name.partition('.')[0]} (the extra `bench`)", file=sys.stderr)
        return None


def payload(image: bytes) -> bytes:
    """The compressed kernel within a bzImage (Documentation/arch/x86/boot.rst)."""
    start = (image[0x1F1] + 1) * 512
    offset, length = struct.unpack_from("<II", image, 0x248)
    return image[start + offset : start + offset + length]


def unpacking(kernel: Path, folder: Path) -> None:
    """From a vmlinuz to the ELF image in memory."""
    packed = payload(kernel.read_bytes())[:-4]  # the size of the image, which no tool expects, stands behind it
    alone = folder / "payload"
    alone.write_bytes(packed)
    jobs: dict[str, Callable[[], object]] = {"pvops.open": lambda: pvops.open(kernel)}
    roles = {"pvops.open": OURS}
    if packed.startswith(b"\xfd7zXZ\0"):
        jobs["lzma of the standard library"] = lambda: lzma.LZMADecompressor().decompress(packed)
        command = ["xz", "-dc"]
    elif packed.startswith(b"\x28\xb5\x2f\xfd"):
        command = ["zstd", "-dcq"]
    else:
        print(f"{kernel.name}: neither xz nor zstd")
        return
    tool = f"{command[0]} on the bare payload, output dropped"
    if shutil.which(command[0]):
        jobs[tool] = lambda: subprocess.run([*command, alone], stdout=subprocess.DEVNULL, check=True)
    roles |= dict.fromkeys((name for name in jobs if name not in roles), PEER)
    report(f"unpack {kernel.name}", least(jobs, ROUNDS), roles)


def elf_of(kernel: Path, folder: Path) -> Path:
    """The unpacked image as a file."""
    path = folder / "vmlinux"
    pvops.open(kernel).plan("native").save(path)
    return path


# Listing the paravirt sites: address, length of the branch, type


def by_pvops(path: Path) -> Found:
    """Ours, which also holds every row to every layout and decodes every site."""
    table = pvops.open(path).paravirt
    assert table is not None
    return [(row[0], row[3], row[2]) for row in table.rows()]


def rows_of(data: bytes) -> Found:
    """The rows of ``.parainstructions`` as 6.1 lays them down."""
    data += bytes(-len(data) % 16)
    return [(address, length, type_) for address, type_, length, _ in struct.iter_unpack("<QBBH4x", data)]


def sections_by_elftools(path: Path) -> tuple[bytes, list[tuple[int, bytes]]]:
    """The table and the code, read with pyelftools."""
    elftools: Any = module("elftools.elf.elffile")
    with path.open("rb") as file:
        elf = elftools.ELFFile(file)
        code = [
            (section["sh_addr"], section.data())
            for section in elf.iter_sections()
            if section["sh_flags"] & 4 and section["sh_type"] == "SHT_PROGBITS"
        ]
        return elf.get_section_by_name(".parainstructions").data(), code


def sections_by_lief(path: Path) -> tuple[bytes, list[tuple[int, bytes]]]:
    """The same with LIEF."""
    lief: Any = module("lief")

    elf = lief.ELF.parse(str(path))
    code = [(s.virtual_address, bytes(s.content)) for s in elf.sections if int(s.flags) & 4]
    return bytes(elf.get_section(".parainstructions").content), code


def checked_by(
    sections: Callable[[Path], tuple[bytes, list[tuple[int, bytes]]]], length_of: Callable[[bytes, int], int]
) -> Callable[[Path], Found]:
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


def opcode(code: bytes, _: int) -> int:
    """No decoder: the two bytes of ``call *disp32(%rip)`` and nothing else. Patched sites have others."""
    return len(code) if code else 0


def listing(path: Path) -> None:
    """The paravirt sites of an uncompressed image, every one decoded."""
    iced, capstone = module("iced_x86"), module("capstone")
    elftools, lief = module("elftools.elf.elffile"), module("lief")

    def by_iced(code: bytes, address: int) -> int:
        assert iced is not None
        decoder = iced.Decoder(64, code, ip=address)
        return sum(insn.len for insn in decoder)

    engine: Any = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64) if capstone else None

    def by_capstone(code: bytes, address: int) -> int:
        return sum(size for _, size, _, _ in engine.disasm_lite(code, address))

    peers: dict[str, Callable[[Path], Found]] = {}
    if elftools:
        peers["pyelftools, no decoder"] = checked_by(sections_by_elftools, opcode)
        if iced:
            peers["pyelftools + iced-x86"] = checked_by(sections_by_elftools, by_iced)
        if capstone:
            peers["pyelftools + capstone"] = checked_by(sections_by_elftools, by_capstone)
    if lief and iced:
        peers["LIEF + iced-x86"] = checked_by(sections_by_lief, by_iced)
    wanted = by_pvops(path)
    for name, peer in peers.items():
        if peer(path) != wanted:
            raise SystemExit(f"{name} lists other sites")
    jobs: dict[str, Callable[[], object]] = {"pvops": lambda: by_pvops(path)}
    jobs |= {name: partial(peer, path) for name, peer in peers.items()}
    roles = {name: OURS if name == "pvops" else PEER for name in jobs}
    report(f"list {len(wanted):,} paravirt sites, each decoded", least(jobs, ROUNDS), roles)


# Rewriting


def planning(kernel: Path) -> None:
    """All tables of a boot planned and written, beside copying the text once."""
    opened = pvops.open(kernel)
    text = opened.plan("native").apply()  # tables and symbols are read once, whoever asks
    jobs: dict[str, Callable[[], object]] = {
        "pvops": lambda: opened.plan("native").apply(),
        "copy .text": lambda: bytearray(text),
    }
    report(f"plan a boot of {kernel.name}, write its .text", least(jobs, ROUNDS), {"pvops": OURS, "copy .text": LIMIT})


def rewriting(kernel: Path) -> None:
    """Every paravirt site made a direct call of one function, and nothing else."""
    from pvops import _core

    opened = pvops.open(kernel)
    table = opened.paravirt
    assert table is not None
    sites = [(row[0], row[3]) for row in table.rows()]
    built = [opened.image.read(*site) or b"" for site in sites]
    target = sites[0][0] & ~0xFFF
    slot, rules = _core.Slot("function", target), _core.Rules(64, "x86")

    def by_pvops() -> bytes:
        return b"".join(
            _core.patch_site(slot, rules, 0, address, code)[0] for (address, _), code in zip(sites, built, strict=True)
        )

    def by_hand() -> bytes:
        return b"".join(b"\xe8" + struct.pack("<i", target - a - 5) + b"\x90" * (n - 5) for a, n in sites)

    wanted = by_hand()
    if by_pvops() != wanted:
        raise SystemExit("ours are other bytes")
    jobs: dict[str, Callable[[], object]] = {"pvops, site by site from Python": by_pvops, "struct, by hand": by_hand}
    roles = {"pvops, site by site from Python": OURS, "struct, by hand": PEER}
    iced, keystone = module("iced_x86"), module("keystone")
    if iced:

        def by_iced() -> bytes:
            encoder = iced.Encoder(64)
            out = []
            for address, length in sites:
                insn = iced.Instruction.create_branch(iced.Code.CALL_REL32_64, target)
                encoder.encode(insn, address)
                out.append(encoder.take_buffer() + b"\x90" * (length - 5))
            return b"".join(out)

        if by_iced() != wanted:
            raise SystemExit("iced-x86 encodes other bytes")
        jobs["iced-x86's encoder"] = by_iced
    if keystone:
        engine: Any = keystone.Ks(keystone.KS_ARCH_X86, keystone.KS_MODE_64)

        def by_keystone() -> bytes:
            return b"".join(
                bytes(engine.asm(f"call {target:#x}", address, as_bytes=True)[0]) + b"\x90" * (length - 5)
                for address, length in sites
            )

        if by_keystone() != wanted:
            raise SystemExit("keystone assembles other bytes")
        jobs["keystone"] = by_keystone
    roles |= dict.fromkeys((name for name in jobs if name not in roles), PEER)
    report(f"rewrite {len(sites):,} sites", least(jobs, ROUNDS), roles)


def main() -> None:
    """Times and prints."""
    root = os.environ.get("PVOPS_KERNELS")
    if root is None:
        print("skipped: PVOPS_KERNELS is not set")
        return
    release = sys.argv[1] if len(sys.argv) > 1 else RELEASE
    kernel = Path(root, "kernels", f"vmlinuz-{release}")
    with tempfile.TemporaryDirectory() as folder:
        unpacking(kernel, Path(folder))
        listing(elf_of(kernel, Path(folder)))
        planning(kernel)
        rewriting(kernel)


if __name__ == "__main__":
    main()
