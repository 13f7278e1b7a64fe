"""Physical CPUs: who runs on each and until when, and where the cycles of virtual CPUs go."""

from __future__ import annotations

from collections.abc import Callable

from pvops.emulate.smp.scheduler import scheduler
from pvops.emulate.smp.setting import PARTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.emulate.smp.record import Recorder
    from pvops.emulate.smp.setting import Setting


class Physical:
    """A physical CPU: its count of cycles, who runs on it, since when, and until when."""

    __slots__ = ("began", "end", "now", "number", "vcpu")

    def __init__(self, number: int, end: int) -> None:
        self.number = number
        self.now = 0
        self.end = end
        self.began = 0
        self.vcpu: int | None = None


class Processors:
    """All of them, at the start of a run: the first virtual CPUs on those of their number, the others queue.

    Args:
        count: virtual CPUs.
        setting: how they are run.
        owns: whether a virtual CPU owns a lock.
        recorder: told who is where.
        gone: told of a virtual CPU that has lost its physical one.

    Attributes:
        at: the one that executes.
        parts: cycles of virtual CPUs by state.
        preempted: how often one lost its physical CPU, and how often while it owned a lock.
        blocked: how often one slept.
    """

    def __init__(
        self,
        count: int,
        setting: Setting,
        owns: Callable[[int], bool],
        recorder: Recorder | None = None,
        gone: Callable[[int], None] = lambda vcpu: None,
    ) -> None:
        self.setting = setting
        self.owns = owns
        self.recorder = recorder
        self.gone = gone
        self.parts = dict.fromkeys(PARTS, 0)
        self.preempted = [0, 0]
        self.blocked = 0
        self._state = ["idle"] * count
        self._since = [0] * count
        self.scheduler = scheduler(setting.scheduler, count, setting.pcpus, setting.slice)
        pcpus = setting.pcpus
        self.all = [Physical(p, (p + 1) * setting.slice // pcpus) for p in range(pcpus)]
        self.at = self.all[0]
        for vcpu in range(count):
            if vcpu < pcpus:
                self.all[vcpu].vcpu = vcpu
                self.enters(vcpu, "useful", 0)
            else:
                self.scheduler.add(vcpu, 0)

    def behind(self) -> Physical | None:
        """The one whose count is least, of those on which somebody runs."""
        busy = [p for p in self.all if p.vcpu is not None]
        return min(busy, key=lambda p: p.now) if busy else None

    def last(self) -> int:
        """The count of the one that is furthest."""
        return max(p.now for p in self.all)

    def state(self, vcpu: int) -> str:
        """A virtual CPU's state, of `PARTS`."""
        return self._state[vcpu]

    def enters(self, vcpu: int, state: str, now: int) -> None:
        """A virtual CPU is in a state from now on."""
        if state != self._state[vcpu]:
            now = max(now, self._since[vcpu])
            self.parts[self._state[vcpu]] += now - self._since[vcpu]
            self._state[vcpu], self._since[vcpu] = state, now
            if self.recorder is not None:
                self.recorder.state(vcpu, state, now)

    def ended(self, p: Physical) -> None:
        """A slice is over: who has it makes way if the scheduler says so."""
        assert p.vcpu is not None
        if self.scheduler.yields(p.vcpu, p.now):
            self.preempt(p)
        else:
            p.end = p.now + self.setting.slice

    def preempt(self, p: Physical) -> None:
        """Who runs makes way, and queues."""
        vcpu = p.vcpu
        assert vcpu is not None
        self.gone(vcpu)
        self.preempted[0] += 1
        self.preempted[1] += self.owns(vcpu)
        self.scheduler.left(vcpu, p.now - p.began)
        self.enters(vcpu, "idle", p.now)
        following = self.scheduler.take(p.now)
        self.scheduler.add(vcpu, p.now)
        p.vcpu = None
        self._put(p, following)

    def leave(self, p: Physical, state: str) -> None:
        """Who runs sleeps (``blocked``), or is done (``idle``)."""
        vcpu = p.vcpu
        assert vcpu is not None
        self.gone(vcpu)
        if state == "blocked":
            self.spend(p, self.setting.exit)
            self.blocked += 1
        self.scheduler.left(vcpu, p.now - p.began)
        self.enters(vcpu, state, p.now)
        p.vcpu = None
        self._put(p, self.scheduler.take(p.now))

    def wake(self, vcpu: int, now: int, by: Physical | None = None) -> None:
        """One that slept can run: on a physical CPU that idles, or one that is taken from another, or it queues.

        Args:
            vcpu: which.
            now: when.
            by: where the one runs that wakes it, who does not make way.
        """
        self.enters(vcpu, "idle", now)
        running = {p.number: (p.vcpu, p.end) for p in self.all if p.vcpu is not None and p is not by}
        victim = self.scheduler.wake(vcpu, now, running)
        for p in self.all:
            if p.vcpu is None:
                p.now = max(p.now, now)
                self._put(p, self.scheduler.take(now))
                return
        if victim is not None:
            p = self.all[victim]
            p.now = max(p.now, now)
            self.preempt(p)

    def _put(self, p: Physical, vcpu: int | None) -> None:
        if vcpu is None:
            return
        p.vcpu = vcpu
        p.now = max(p.now, self._since[vcpu])
        if self.recorder is not None:
            self.recorder.put(vcpu, p.number, p.now)
        p.began = p.now
        self.spend(p, self.setting.switch)
        p.end = p.now + self.setting.slice

    def spend(self, p: Physical, cycles: int) -> None:
        """The hypervisor works for who runs."""
        if p.vcpu is not None and cycles:
            self.enters(p.vcpu, "overhead", p.now)
            p.now += cycles

    def close(self) -> None:
        """The run is over: what each virtual CPU's last state took is counted."""
        last = self.last()
        for cpu, state in enumerate(self._state):
            self.parts[state] += max(last - self._since[cpu], 0)
