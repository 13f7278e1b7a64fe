"""Store buffers: what a CPU stores is seen by itself at once, and by the others later, in order.

Between two quanta memory holds what all CPUs see. When a CPU executes, its own buffered stores lie over that, so that
its loads find them (TSO, total store order: Sewell et al., "x86-TSO", 2010); when it stops, those that are not drained
are taken back. Locked instructions, ``xchg`` with memory, ``mfence`` and whatever serialises or leaves the guest drain
all of it first. How many of the oldest drain at other times is drawn, from a seed.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from random import Random

import iced_x86

from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from iced_x86 import Instruction

    from pvops.emulate.emulator import Uc
    from pvops.emulate.smp.memory import Memory
    from pvops.emulate.smp.vcpu import Vcpu

#: Entries of a buffer: when it is full, the oldest drains. (42 on Haswell, 56 on Skylake.)
ENTRIES = 56

_M = iced_x86.Mnemonic
#: What waits until all stores before it are seen.
_DRAINING = {_M.MFENCE, _M.CPUID, _M.WRMSR, _M.IRET, _M.IRETD, _M.IRETQ, _M.HLT, _M.INT, _M.SYSCALL, _M.VMCALL}
_WITH_MEMORY = iced_x86.OpKind.MEMORY


class Store(NamedTuple):
    """A store that others may not see yet: where, what was there, and what is stored."""

    address: int
    old: bytes
    new: bytes


def draining(text: Iterable[Instruction]) -> dict[int, bool]:
    """Instructions that drain the buffer → whether they are locked, so that their own store is seen at once."""
    out = {}
    for i in text:
        locked = i.has_lock_prefix or (i.mnemonic == _M.XCHG and _WITH_MEMORY in (i.op0_kind, i.op1_kind))
        if locked or i.mnemonic in _DRAINING:
            out[i.ip] = locked
    return out


class StoreBuffer:
    """The buffer of one CPU.

    Args:
        cpu: whose.
        text: its instructions.
        noted: addresses of which it is told when a store to them is seen by all.
        seen: told so.
    """

    def __init__(
        self,
        cpu: Vcpu,
        text: Iterable[Instruction],
        noted: Container[int] = (),
        seen: Callable[[], None] = lambda: None,
    ) -> None:
        self.cpu = cpu
        self.memory: Memory = cpu.memory
        self.stores: list[Store] = []
        self._noted = noted
        self._seen = seen
        self._on = False
        self._locked = False
        self._low, self._high = self.memory.address, self.memory.address + self.memory.size
        self._draining = draining(text)
        cpu.watch({at: self._locks if locked else self._drains for at, locked in self._draining.items()})
        cpu.watch_writes(self._stored)

    def begin(self, random: Random) -> None:
        """A run begins; `random` says what drains when."""
        self.random = random
        self.stores.clear()
        self._on = self._locked = False

    def resume(self) -> None:
        """The CPU is about to execute: it sees its own stores."""
        self._on, self._locked = True, False
        memory = self.memory
        for n, store in enumerate(self.stores):
            self.stores[n] = store._replace(old=memory.read(store.address, len(store.new)))
            memory.write(store.address, store.new)

    def suspend(self) -> None:
        """The CPU stops: some of its stores drain, and the rest are not seen."""
        if self.stores and self.random.getrandbits(1):
            self._drop(self.random.randint(1, len(self.stores)))
        self._on = False
        self._take_back()

    def drain(self) -> None:
        """Every buffered store reaches memory."""
        if not self._on:
            for store in self.stores:
                self.memory.write(store.address, store.new)
        self._drop(len(self.stores))

    def before(self, at: int) -> None:
        """The CPU is about to execute an instruction, and somebody wants to know what is seen by then."""
        if at in self._draining:
            self.drain()

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Memory as the others see it, for a while."""
        if not self._on:
            yield
            return
        self._take_back()
        yield
        self.resume()

    def _take_back(self) -> None:
        for store in reversed(self.stores):
            self.memory.write(store.address, store.old)

    def _drop(self, count: int) -> None:
        """The oldest are seen by all."""
        gone = self.stores[:count]
        del self.stores[:count]
        for store in gone:
            if store.address in self._noted:
                self._seen()

    def _drains(self, at: int) -> None:
        self.drain()

    def _locks(self, at: int) -> None:
        self.drain()
        self._locked = True

    def _stored(self, uc: Uc, access: int, at: int, size: int, value: int, data: object) -> None:
        """Called before each store of the CPU."""
        at &= (1 << self.cpu.bits) - 1
        if self._locked:
            self._locked = False
        elif self._on and self._low <= at and at + size <= self._high:
            if len(self.stores) == ENTRIES:
                self._drop(1)
            new = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
            self.stores.append(Store(at, self.memory.read(at, size), new))
