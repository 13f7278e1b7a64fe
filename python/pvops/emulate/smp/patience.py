"""Who waits in vain: a lock is free, and those who wait for it have executed enough to find that, or sleep for good.

Instructions tell, and not cycles: how many of these a virtual CPU needs for an instruction is the scheduler's affair.
What it executes in the handlers of interrupts is none of the waiting that they interrupt.
"""

from __future__ import annotations

from pvops.emulate.smp.watch import Watch, Watches

#: Instructions of a handler behind its last mark, by width: registers, and the way back, below Xen a hypercall.
_TAIL = {32: 10, 64: 24}


class _Since:
    """What virtual CPUs have executed since anything happened to a lock."""

    def __init__(self, watch: Watch, cpus: int) -> None:
        self._watch = watch
        self._marks = [0] * cpus
        self._count = [0] * cpus

    def add(self, vcpu: int, count: int) -> None:
        self._count[vcpu] = self[vcpu] + count
        self._marks[vcpu] = self._watch.marks

    def __getitem__(self, vcpu: int) -> int:
        return self._count[vcpu] if self._marks[vcpu] == self._watch.marks else 0


class Patience:
    """What each virtual CPU has executed of its waiting since anything happened to the lock that it waits for.

    Args:
        watches: both locks.
        cpus: how many.
        threshold: looks at a lock before a waiter sleeps.
        bits: 32 or 64.
    """

    def __init__(self, watches: Watches, cpus: int, threshold: int, bits: int) -> None:
        self._watches = watches
        self._tail = _TAIL[bits]
        #: A look takes some ten instructions, and to fall asleep or to go through all CPUs some more for each of these.
        self._enough = 64 * threshold + 32 * cpus + 256
        #: A handler that ends in a quantum has not waited in it: nobody else executes while it lasts.
        self._handler = 32 * cpus + 256
        self._main, self._irq = _Since(watches.main, cpus), _Since(watches.irq, cpus)
        self._handles = [False] * cpus
        self._ended = [False] * cpus
        #: So much of what comes may be a handler's still.
        self._rest = [0] * cpus

    def handles(self, vcpu: int) -> None:
        """A handler begins."""
        self._handles[vcpu] = True

    def handled(self, vcpu: int) -> None:
        """A handler is at its last mark."""
        self._handles[vcpu], self._ended[vcpu] = False, True

    def executed(self, vcpu: int, count: int) -> None:
        """A virtual CPU has executed so many instructions, if not more."""
        if self._ended[vcpu]:
            self._rest[vcpu] = min(count, self._handler) + self._tail
            self._ended[vcpu] = False
        if self._watches.irq.waiting(vcpu):
            self._irq.add(vcpu, count)
        elif not self._handles[vcpu]:
            own = max(count - self._rest[vcpu], 0)
            self._rest[vcpu] -= count - own
            self._main.add(vcpu, own)

    def between_handlers(self, vcpu: int) -> None:
        """It has executed something between two handlers, be it one instruction."""
        self._main.add(vcpu, 1)

    def in_vain(self, vcpu: int, *, asleep: bool) -> bool:
        """Whether it waits, and will for ever if all others do.

        Args:
            vcpu: which.
            asleep: only a kick wakes it.
        """
        irq, main = self._watches.irq, self._watches.main
        nested = irq.waiting(vcpu)
        if nested and irq.owner is None and (asleep or self._irq[vcpu] >= self._enough):
            return True
        # Whatever becomes of its handler. An owner that was interrupted may wait itself.
        free = main.owner is None or irq.waiting(main.owner)
        return main.waiting(vcpu) and free and ((asleep and not nested) or self._main[vcpu] >= self._enough)
