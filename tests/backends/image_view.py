"""A view of a real kernel for these tests, in plain Python: unpack, ELF sections, kallsyms, and op names from BTF.

Only what `pvops.backends.backend.ImageView` asks for, and the static contents of ``pv_ops``. Kernels of x86-64 with
CONFIG_KALLSYMS_ALL and BTF.
"""

from __future__ import annotations

import lzma
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

from pvops.backends.backend import Slot

_BEST_TOKENS = b"".join(bytes((c, 0)) for c in b"0123456789")


class KernelView:
    """One vmlinuz: an `ImageView`, with the ops that its BTF names and what ``pv_ops`` holds in the file."""

    bits = 64
    word = 8

    def __init__(self, path: Path) -> None:
        self.elf = unpack(path.read_bytes())
        self.sections = list(_sections(self.elf))
        self.names: dict[str, list[int]] = {}
        self.at: dict[int, list[str]] = {}
        rodata = next(address for name, address, _, _ in self.sections if name == ".rodata")
        for address, kind, name in _kallsyms(self._section(".rodata"), rodata):
            self.names.setdefault(name, []).append(address)
            if kind in "tTwW":
                self.at.setdefault(address, []).append(name)
        self.ops: list[str] = []
        self.table: dict[str, str] = {}
        self.native: dict[str, Slot] = {}
        structs = _btf(self._section(".BTF"))
        template = list(_ops(structs, "paravirt_patch_template"))
        self._add("pv_ops", template)
        if "pv_ops_lock" in self.names:
            self._add("pv_ops_lock", [f"pv_lock_ops.{op}" for op in _fields(structs, structs["pv_lock_ops"])])

    def _add(self, table: str, ops: list[str]) -> None:
        base = self.names[table][0]
        for i, op in enumerate(ops):
            address = self.read_word(base + 8 * i)
            name = self.symbol_at(address) if address else None
            self.ops.append(op)
            self.table[op] = table
            self.native[op] = Slot(op, name, address or None, f"{table} has {name}", f"{table}+{8 * i:#x}")

    def _section(self, name: str) -> bytes:
        return next(self.elf[offset : offset + size] for n, _, offset, size in self.sections if n == name)

    def address_of(self, symbol: str) -> int | None:
        found = self.names.get(symbol)
        return found[0] if found else None

    def symbol_at(self, address: int) -> str | None:
        found = self.at.get(address)
        return found[0] if found else None

    def read_word(self, address: int) -> int | None:
        for _, start, offset, size in self.sections:
            if start and start <= address <= start + size - 8:
                return int(struct.unpack_from("<Q", self.elf, offset + address - start)[0])
        return None


def unpack(vmlinuz: bytes) -> bytes:
    """The ELF file inside a bzImage, whose payload the setup header points to (xz or zstd)."""
    setup = (vmlinuz[0x1F1] or 4) * 512 + 512
    offset, length = struct.unpack_from("<II", vmlinuz, 0x248)
    payload = vmlinuz[setup + offset : setup + offset + length]
    if payload.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMADecompressor().decompress(payload)
    if payload.startswith(b"\x28\xb5\x2f\xfd"):
        zstd = shutil.which("zstd")
        if zstd is None:
            raise NotImplementedError("this kernel is packed with zstd, and there is no zstd program")
        return subprocess.run([zstd, "-dcq"], input=payload[:-4], stdout=subprocess.PIPE, check=True).stdout
    raise NotImplementedError(f"payload begins with {payload[:4].hex()}")


def _sections(elf: bytes) -> Iterator[tuple[str, int, int, int]]:
    """(name, address, file offset, size) of sections that the file holds."""
    (table,) = struct.unpack_from("<Q", elf, 0x28)
    size, count, names = struct.unpack_from("<HHH", elf, 0x3A)
    rows = [struct.unpack_from("<IIQQQQ", elf, table + i * size) for i in range(count)]
    for name, kind, _, address, offset, length in rows:
        start = rows[names][4] + name
        if kind not in (0, 8):
            yield elf[start : elf.index(b"\0", start)].decode(), address, offset, length


def _align(n: int, to: int = 8) -> int:
    return -(-n // to) * to


def _token_table(data: bytes) -> tuple[int, list[str], int]:
    """Offset of the 256 tokens, the tokens, offset of their index (which proves them)."""
    found = data.find(_BEST_TOKENS)
    while found >= 0:
        table = found
        for _ in range(ord("0")):
            table = data.rindex(b"\0", 0, table - 1) + 1
        tokens = data[table : table + 8192].split(b"\0")[:256]
        starts = [0]
        for token in tokens:
            starts.append(starts[-1] + len(token) + 1)
        index = _align(table + starts[256])
        if list(struct.unpack_from("<256H", data, index)) == starts[:256]:
            return table, [token.decode("latin1") for token in tokens], index
        found = data.find(_BEST_TOKENS, found + 1)
    raise ValueError("no kallsyms token table")


def _names(data: bytes, tokens: list[str]) -> tuple[int, list[str]]:
    """Offset of the count of symbols, and the symbols, each with its type letter in front."""
    for at in range(0, len(data) - 8, 4):
        (count,) = struct.unpack_from("<I", data, at)
        if not 20_000 < count < 1_000_000:
            continue
        for start in (at + 8, at + 4):
            found: list[str] = []
            place = start
            while len(found) < count:
                length = data[place]
                place += 1
                if length & 0x80:
                    length = length & 0x7F | data[place] << 7
                    place += 1
                text = "".join([tokens[b] for b in data[place : place + length]])
                place += length
                if len(text) < 2 or text[0] not in "aAbBdDrRtTuUvVwW":
                    break
                found.append(text)
            else:
                return at, found
    raise ValueError("no kallsyms names")


def _kallsyms(data: bytes, section: int) -> Iterator[tuple[int, str, str]]:
    """(address, type, name) of every symbol, from .rodata at address ``section``.

    To 6.3: offsets, base, count, names, …, tokens, index; then offsets and base moved behind the index; in 7.x each
    offset is relative to its own place, without a base.
    """
    _, tokens, index = _token_table(data)
    at, names = _names(data, tokens)

    def address(at: int) -> int:
        (value,) = struct.unpack_from("<Q", data, at)
        return int(value) if value >> 31 == 0x1FFFFFFFF else 0

    base, offsets = address(at - 8), at - 8 - _align(4 * len(names))
    if not base:
        offsets = _align(index + 512)
        base = address(_align(offsets + 4 * len(names)))
    values = struct.unpack_from(f"<{len(names)}i", data, offsets)
    percpu = base and any(v < 0 for v in values)
    for i, (value, name) in enumerate(zip(values, names, strict=True)):
        if not base:
            value += section + offsets + 4 * i
        elif percpu:
            value = value if value >= 0 else base - 1 - value
        else:
            value += base
        yield value, name[0], name[1:]


def _btf(data: bytes) -> dict[str, list[tuple[str, str]]]:
    """Structures by name: (member, name of the member's structure type or empty)."""
    _, _, _, header, types, length, strings, _ = struct.unpack_from("<HBBIIIII", data, 0)
    at, end, text = header + types, header + types + length, header + strings
    extra = {1: 4, 3: 12, 14: 4, 17: 4}
    each = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}
    names: list[tuple[int, int]] = [(0, 0)]
    members: dict[int, list[tuple[int, int]]] = {}
    while at < end:
        name, info = struct.unpack_from("<II", data, at)
        kind, count = info >> 24 & 31, info & 0xFFFF
        if kind == 4:
            members[len(names)] = [struct.unpack_from("<II", data, at + 12 + 12 * i) for i in range(count)]
        names.append((kind, name))
        at += 12 + extra.get(kind, 0) + each.get(kind, 0) * count

    def string(offset: int) -> str:
        return data[text + offset : data.index(b"\0", text + offset)].decode()

    return {
        string(names[i][1]): [(string(n), string(names[t][1]) if names[t][0] == 4 else "") for n, t in rows]
        for i, rows in members.items()
    }


def _fields(structs: dict[str, list[tuple[str, str]]], rows: list[tuple[str, str]]) -> Iterator[str]:
    for name, kind in rows:
        if kind and kind != "paravirt_callee_save":
            for inner in _fields(structs, structs[kind]):
                yield f"{name}.{inner}"
        else:
            yield name


def _ops(structs: dict[str, list[tuple[str, str]]], template: str) -> Iterator[str]:
    for _, kind in structs[template]:
        for field in _fields(structs, structs[kind]):
            yield f"{kind}.{field}"
