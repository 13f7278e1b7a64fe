"""What a run executed: instructions, indirect calls, and each op's calls, counted block by block.

The CPU says which blocks it enters; how many instructions and sites a block has is looked up once. So counting costs a
call into Python a block, which a run that is only timed does without.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from iced_x86 import Instruction

    from pvops.emulate.cpu import Cpu
    from pvops.emulate.emulator import Uc


class Block(NamedTuple):
    """A run of instructions that is only entered at its start.

    Attributes:
        ends: where each of its instructions ends.
        indirect: addresses of its indirect calls and jumps.
        calls: (address, op) of each op's site that starts in it, or of its plain calls.
    """

    ends: tuple[int, ...]
    indirect: tuple[int, ...]
    calls: tuple[tuple[int, str], ...]


class Meter:
    """Counts what one CPU executes.

    Args:
        cpu: the CPU.
        sites: address of each site → (op, length).
        plain: address of each call of an op without a site → the op.
        limit: how many instructions there may be.
    """

    def __init__(self, cpu: Cpu, sites: Mapping[int, tuple[str, int]], plain: Mapping[int, str], limit: int) -> None:
        import iced_x86

        from pvops.emulate.emulator import unicorn

        self._iced = iced_x86
        self.cpu = cpu
        self.limit = limit
        self.sites = dict(sites)
        self._at = {address: op for address, (op, _) in sites.items()} | dict(plain)
        self._inside = {a + i: a for a, (_, length) in sites.items() for i in range(1, length)}
        self.instructions = 0
        self.indirect_calls = 0
        self.ops: Counter[str] = Counter()
        self._blocks: dict[tuple[int, int], Block] = {}
        self._entered: Counter[tuple[int, int]] = Counter()
        self._last = (0, 0)
        library, _, _ = unicorn()
        cpu.uc.hook_add(library.UC_HOOK_BLOCK, self._on_block)
        cpu.interrupted = self._cut
        cpu.counted = True

    def patching(self) -> None:
        """The text is about to change: what was counted so far is added up by the text as it is."""
        self._add_up()
        self._blocks.clear()

    def finish(self) -> None:
        """Adds up."""
        self._add_up()

    def _add_up(self) -> None:
        for key, times in self._entered.items():
            block = self._block(key)
            self.indirect_calls += times * len(block.indirect)
            for _, op in block.calls:
                self.ops[op] += times
        self._entered.clear()

    def _on_block(self, uc: Uc, address: int, size: int, data: object) -> None:
        key = address, size
        block = self._blocks.get(key)
        if block is None:
            block = self._blocks[key] = self._decoded(key)
        if address in self._inside and sum(self._last) != address:
            self._jumped_inside(address)
        self._last = key
        self._entered[key] += 1
        self.instructions += len(block.ends)
        if self.instructions > self.limit:
            self.cpu.stop("instructions", f"more than {self.limit:,} instructions", address)

    def _jumped_inside(self, address: int) -> None:
        """Into a site by a jump; a return to behind a call in it is none."""
        start = self._inside[address]
        op, length = self.sites[start]
        content = self._instructions(start, length)
        if any(i.next_ip == address and i.is_call_near | i.is_call_near_indirect for i in content):
            return
        self.cpu.stop("into-site", f"jumps into the middle of the site of {op} at {start:#x}", address)

    def _cut(self, address: int) -> None:
        """The instruction at an address was the last of its block: carried out by the host, or to be tried again."""
        block = self._block(self._last)
        start = self._last[0]
        again = self.cpu.get("eip") == address or not start <= self.cpu.get("eip") < sum(self._last)
        done = sum(1 for end in block.ends if end <= address) + (0 if again else 1)
        self.instructions -= len(block.ends) - done
        self._last = start, (address if again else self.cpu.get("eip")) - start
        self.indirect_calls -= sum(1 for at in block.indirect if at > address)
        for at, op in block.calls:
            if at > address:
                self.ops[op] -= 1

    def _block(self, key: tuple[int, int]) -> Block:
        found = self._blocks.get(key)
        return found if found is not None else self._decoded(key)

    def _decoded(self, key: tuple[int, int]) -> Block:
        address, size = key
        code = self._instructions(address, size)
        return Block(
            tuple(i.next_ip for i in code),
            tuple(i.ip for i in code if i.is_call_near_indirect or i.is_jmp_near_indirect),
            tuple((i.ip, self._at[i.ip]) for i in code if i.ip in self._at),
        )

    def _instructions(self, address: int, size: int) -> list[Instruction]:
        return list(self._iced.Decoder(32, self.cpu.read(address, size), ip=address)) if size else []
