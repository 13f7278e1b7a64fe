"""A real kernel for these tests, with every ops array it has: 6.12 and later have ops, but no table of their sites."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pvops
from pvops.backends.backend import Slot


class KernelView:
    """One vmlinuz: an `ImageView`, with the ops that its BTF names and what ``pv_ops`` holds in the file."""

    def __init__(self, path: Path) -> None:
        self.kernel = pvops.open(path)
        self.ops: list[str] = []
        self.table: dict[str, str] = {}
        self.native: dict[str, Slot] = {}
        self._add("pv_ops", "paravirt_patch_template")
        if self.address_of("pv_ops_lock") is not None:
            self._add("pv_ops_lock", "pv_lock_ops")

    def _add(self, table: str, structure: str) -> None:
        base, members = self.address_of(table), self.kernel.image.btf_members(structure)
        assert base is not None
        assert members is not None
        for path, offset in members:
            struct, dot, member = path.partition(".")
            op = f"pv_{struct}_ops.{member}" if dot and table == "pv_ops" else f"pv_lock_ops.{path}"
            address = self.read_word(base + offset)
            name = self.symbol_at(address) if address else None
            self.ops.append(op)
            self.table[op] = table
            self.native[op] = Slot(op, name, address, f"{table} has {name}", f"{table}+{offset:#x}")

    @property
    def bits(self) -> int:
        return self.kernel.bits

    @property
    def word(self) -> int:
        return self.kernel.word

    def address_of(self, symbol: str) -> int | None:
        return self.kernel.address_of(symbol)

    def symbol_at(self, address: int) -> str | None:
        return self.kernel.symbol_at(address)

    def find_words(self, words: Mapping[int, int]) -> int | None:
        return None

    def read_word(self, address: int) -> int | None:
        return self.kernel.read_word(address)
