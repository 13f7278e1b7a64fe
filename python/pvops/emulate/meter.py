"""What a run executed: instructions, indirect calls, and each op's calls, counted block by block.

The CPU says which blocks it enters, and the core counts them; how many instructions and sites a block has is looked up
once. So nothing of Python runs but for a block that is new, or that is jumped into within a site.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from iced_x86 import Instruction

    from pvops.emulate.cpu import Cpu


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

        from pvops._core import BlockCounter
        from pvops.emulate.emulator import hook_blocks

        self._iced = iced_x86
        self.cpu = cpu
        self.limit = limit
        self._counter = BlockCounter(min(limit, (1 << 63) - 1), self._look)
        self.sites = dict(sites)
        self._at = {address: op for address, (op, _) in sites.items()} | dict(plain)
        self._inside = {a + i: a for a, (_, length) in sites.items() for i in range(1, length)}
        self.indirect_calls = 0
        self.ops: Counter[str] = Counter()
        self._blocks: dict[tuple[int, int], Block] = {}
        hook_blocks(cpu.uc, self._counter)
        cpu.interrupted = self._cut
        cpu.counted = True

    @property
    def instructions(self) -> int:
        """How many were executed."""
        return self._counter.instructions

    def patching(self) -> None:
        """The text is about to change: what was counted so far is added up by the text as it is."""
        self._add_up(forget=True)
        self._blocks.clear()

    def finish(self) -> None:
        """Adds what blocks executed to the counts."""
        self._add_up()

    def _add_up(self, *, forget: bool = False) -> None:
        for address, size, times in self._counter.taken(forget=forget):
            block = self._block((address, size))
            self.indirect_calls += times * len(block.indirect)
            for _, op in block.calls:
                self.ops[op] += times

    def _look(self, address: int, size: int) -> None:
        """A block is new, or was jumped into within a site, or is one too many."""
        try:
            key = address, size
            block = self._blocks.get(key)
            if block is None:
                block = self._blocks[key] = self._decoded(key)
                self._counter.know(address, size, len(block.ends), address in self._inside)
            if address in self._inside and sum(self._counter.last) != address:
                self._jumped_inside(address)
            self._counter.enter(address, size)
            if self.instructions > self.limit:
                self.cpu.stop("instructions", f"more than {self.limit:,} instructions", address)
        except BaseException:
            self.cpu.uc.emu_stop()
            raise

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
        last = self._counter.last
        block = self._block(last)
        start = last[0]
        again = self.cpu.get("pc") == address or not start <= self.cpu.get("pc") < sum(last)
        done = sum(1 for end in block.ends if end <= address) + (0 if again else 1)
        self._counter.instructions -= len(block.ends) - done
        self._counter.last = start, (address if again else self.cpu.get("pc")) - start
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
        return list(self._iced.Decoder(self.cpu.bits, self.cpu.read(address, size), ip=address)) if size else []
