"""Which virtual CPU runs on which physical one: a hypervisor's schedulers, as `pvops lock simulate` has them.

They are told who can run and asked who is next; they know nothing of guests. Times are cycles.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Protocol


class Scheduler(Protocol):
    """Which virtual CPU runs next on a physical one."""

    def add(self, vcpu: int, now: int) -> None:
        """It can run and has no physical CPU: it lost it."""

    def wake(self, vcpu: int, now: int, running: Mapping[int, tuple[int, int]]) -> int | None:
        """It was blocked and can run. Which physical CPU, of those that run (virtual CPU, end of its slice), is to
        take it at once; None where it queues."""

    def take(self, now: int) -> int | None:
        """Who is next, and queues no more."""

    def yields(self, vcpu: int, now: int) -> bool:
        """Whether it makes way at the end of its slice."""

    def left(self, vcpu: int, cycles: int) -> None:
        """It gave its physical CPU up, which it had for so many cycles."""

    def names(self) -> list[int]:
        """The virtual CPUs that queue, in order."""


class RoundRobin:
    """One queue, first come, first served."""

    def __init__(self, vcpus: int, pcpus: int, slice_: int) -> None:
        self._queue: deque[int] = deque()

    def add(self, vcpu: int, now: int) -> None:
        self._queue.append(vcpu)

    def wake(self, vcpu: int, now: int, running: Mapping[int, tuple[int, int]]) -> int | None:
        self._queue.append(vcpu)
        return None

    def take(self, now: int) -> int | None:
        return self._queue.popleft() if self._queue else None

    def yields(self, vcpu: int, now: int) -> bool:
        return bool(self._queue)

    def left(self, vcpu: int, cycles: int) -> None:
        """Without effect in this scheduler."""

    def names(self) -> list[int]:
        return list(self._queue)


_BOOST, _UNDER, _OVER = range(3)


class Credit:
    """Xen's credit scheduler, simplified: shares, and who is kicked while under its share goes first."""

    def __init__(self, vcpus: int, pcpus: int, slice_: int) -> None:
        self._credit = [0] * vcpus
        self._boosted = [False] * vcpus
        self._share = slice_ * pcpus // vcpus
        self._slice = slice_
        self._next = slice_
        self._queues: tuple[deque[int], ...] = (deque(), deque(), deque())

    def _class(self, vcpu: int) -> int:
        return _BOOST if self._boosted[vcpu] else _UNDER if self._credit[vcpu] >= 0 else _OVER

    def _account(self, now: int) -> None:
        while now >= self._next:
            self._next += self._slice
            for vcpu, credit in enumerate(self._credit):
                self._credit[vcpu] = max(-self._slice, min(self._slice, credit + self._share))
            queued = self.names()
            for queue in self._queues:
                queue.clear()
            for vcpu in queued:
                self._queues[self._class(vcpu)].append(vcpu)

    def add(self, vcpu: int, now: int) -> None:
        self._boosted[vcpu] = False
        self._account(now)
        self._queues[self._class(vcpu)].append(vcpu)

    def wake(self, vcpu: int, now: int, running: Mapping[int, tuple[int, int]]) -> int | None:
        self._account(now)
        self._boosted[vcpu] = self._credit[vcpu] >= 0
        self._queues[self._class(vcpu)].append(vcpu)
        if not self._boosted[vcpu]:
            return None
        # One over its share before one under it, then whose slice ends first, then the lowest.
        victims = [
            (-self._class(held), end, pcpu) for pcpu, (held, end) in running.items() if self._class(held) != _BOOST
        ]
        return min(victims)[2] if victims else None

    def take(self, now: int) -> int | None:
        self._account(now)
        for queue in self._queues:
            if queue:
                return queue.popleft()
        return None

    def yields(self, vcpu: int, now: int) -> bool:
        self._boosted[vcpu] = False
        self._account(now)
        return any(self._queues[kind] for kind in range(self._class(vcpu) + 1))

    def left(self, vcpu: int, cycles: int) -> None:
        self._credit[vcpu] -= cycles
        self._boosted[vcpu] = False

    def names(self) -> list[int]:
        return [vcpu for queue in self._queues for vcpu in queue]


SCHEDULERS: Mapping[str, type[RoundRobin] | type[Credit]] = {"round-robin": RoundRobin, "credit": Credit}


def scheduler(name: str, vcpus: int, pcpus: int, slice_: int) -> Scheduler:
    """A scheduler by name, one of `SCHEDULERS`."""
    return SCHEDULERS[name](vcpus, pcpus, slice_)
