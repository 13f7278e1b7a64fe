"""Who arrives at a lock, has it and gives it up, as the guest's own instructions tell; and what must not be.

What is promised is the checker's list: one owner at a time; who arrives first enters first; nobody touches the lock
when another may have freed it. That no kick is lost shows in that everybody is done in the end.
"""

from __future__ import annotations

from collections.abc import Iterable

from pvops.emulate.guest.locks.code import Protocol
from pvops.emulate.guest.locks.steps import ARRIVE, DONE, ENTER, LEAVE
from pvops.tuples import NamedTuple


class Broken(NamedTuple):
    """A promise that was not kept.

    Attributes:
        kind: as the checker has it: ``mutual-exclusion``, ``order``, ``touch-after-release``, ``lost-kick``; and
            ``lost-update``, where the counter behind the lock is wrong.
        vcpu: who.
        why: in words.
    """

    kind: str
    vcpu: int
    why: str


class Watch:
    """One lock's use by some CPUs.

    Args:
        protocol: what it promises.
        cpus: how many.
    """

    def __init__(self, protocol: Protocol, cpus: int) -> None:
        self.protocol = protocol
        self.owner: int | None = None
        #: Those who wait, in the order of arrival.
        self.queue: list[int] = []
        self.acquisitions = [0] * cpus
        self.waits: list[int] = []
        self.broken: Broken | None = None
        #: How often anything happened.
        self.marks = 0
        self._since: dict[int, int] = {}
        #: 1: gave the lock up; 2: and another did since.
        self._standing = [0] * cpus

    def mark(self, vcpu: int, mark: str, now: int) -> None:
        """A CPU executes an instruction with a meaning."""
        if mark == ARRIVE and vcpu in self._since:
            return  # it comes again, and has been there
        self.marks += 1
        if mark == ARRIVE:
            self.queue.append(vcpu)
            self._since[vcpu] = now
        elif mark == ENTER:
            self._enter(vcpu, now)
        elif mark == LEAVE:
            self._standing = [2 if held == 1 else held for held in self._standing]
            self._standing[vcpu] = 1
            if self.owner == vcpu:
                self.owner = None
        elif mark == DONE:
            self._standing[vcpu] = 0

    def _enter(self, vcpu: int, now: int) -> None:
        if self.owner is not None:
            self._break("mutual-exclusion", vcpu, f"CPU {vcpu} enters while CPU {self.owner} owns the lock")
        if self.protocol.fifo and self.queue and self.queue[0] != vcpu:
            self._break("order", vcpu, f"CPU {vcpu} enters before CPU {self.queue[0]}, which arrived earlier")
        if vcpu in self.queue:
            self.queue.remove(vcpu)
        self.waits.append(now - self._since.pop(vcpu, now))
        self.owner = vcpu
        self.acquisitions[vcpu] += 1

    def touched(self, vcpu: int) -> None:
        """A CPU accesses the lock's memory."""
        if self.protocol.no_touch and self._standing[vcpu] == 2:
            why = f"CPU {vcpu} touches the lock after its release, when the next owner may have freed it"
            self._break("touch-after-release", vcpu, why)

    def waiting(self, vcpu: int) -> bool:
        """Whether it has arrived and not entered."""
        return vcpu in self._since

    def _break(self, kind: str, vcpu: int, why: str) -> None:
        if self.broken is None:
            self.broken = Broken(kind, vcpu, why)


class Ticks:
    """Timer interrupts, and whether CPUs execute anything between two of them.

    Args:
        cpus: how many.

    Attributes:
        count: how many came to all CPUs.
    """

    #: So many in a row with nothing between are no chance: a quantum may end at the very end of a handler.
    ENOUGH = 64

    def __init__(self, cpus: int) -> None:
        self.count = 0
        self._came: list[tuple[int, int] | None] = [None] * cpus
        self._seen = [0] * cpus
        self._idle = [0] * cpus

    def about(self, vcpu: int, place: tuple[int, int]) -> None:
        """A CPU is about to execute: its program counter and stack."""
        self._seen[vcpu] += place == self._came[vcpu]

    def came(self, vcpu: int, place: tuple[int, int] | None) -> bool:
        """One comes: whether the CPU has executed anything. place is where it is, None where it has for sure."""
        self.count += 1
        nothing = place is not None and place == self._came[vcpu] and self._seen[vcpu] <= 1
        self._idle[vcpu] = self._idle[vcpu] + 1 if nothing else 0
        self._came[vcpu], self._seen[vcpu] = place, 0
        return not nothing

    def starve(self, vcpus: Iterable[int]) -> bool:
        """Whether these, of which there are some, have executed handlers alone for long."""
        return all(self._idle[vcpu] >= self.ENOUGH for vcpu in vcpus)


class Watches:
    """Both locks of a guest: that under test, and the one that interrupt handlers take.

    Args:
        protocol: what both promise.
        cpus: how many.
    """

    def __init__(self, protocol: Protocol, cpus: int) -> None:
        self.main = Watch(protocol, cpus)
        self.irq = Watch(protocol, cpus)

    @property
    def broken(self) -> Broken | None:
        """The first promise that was not kept."""
        return self.main.broken or self.irq.broken

    def waiting(self, vcpu: int) -> bool:
        """Whether a CPU waits for one of them."""
        return self.main.waiting(vcpu) or self.irq.waiting(vcpu)

    def spins(self, vcpu: int) -> bool:
        """Whether what it executes is waiting: an interrupted waiter in its handler's critical section does not."""
        return self.irq.waiting(vcpu) or (self.main.waiting(vcpu) and self.irq.owner != vcpu)

    def owns(self, vcpu: int) -> bool:
        """Whether a CPU owns one of them."""
        return vcpu in (self.main.owner, self.irq.owner)
