"""A guest on several virtual CPUs, and these on fewer physical ones: stepped by a seed, one quantum after another.

Cycles are a model and no time: an instruction is one, and what the hypervisor does costs what `Setting` says. Each
physical CPU has a count of its own, and the one that is behind is next; it executes a quantum of instructions, whose
length the seed draws. A trap ends a quantum, which is counted whole.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from functools import partial

from pvops.emulate.cpu import Stop
from pvops.emulate.guest.locks.code import CPUS
from pvops.emulate.guest.locks.kernel import TOLD
from pvops.emulate.guest.locks.steps import DONE
from pvops.emulate.smp import boot
from pvops.emulate.smp.backends import HYPERVISORS
from pvops.emulate.smp.counts import Counts
from pvops.emulate.smp.patience import Patience
from pvops.emulate.smp.processors import Physical, Processors
from pvops.emulate.smp.record import DRAIN, Recorder
from pvops.emulate.smp.setting import Outcome, Setting
from pvops.emulate.smp.stores import StoreBuffer
from pvops.emulate.smp.text import instructions
from pvops.emulate.smp.watch import Broken, Ticks, Watches
from pvops.errors import RunError, there_are

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pvops.emulate.guest.locks.kernel import LockImage
    from pvops.emulate.guest.locks.steps import Step
    from pvops.emulate.smp.vcpu import Vcpu


#: An address of the guest's in the text of an instruction.
_ADDRESS = re.compile("0x(?:ffffffff8|c0)[0-9a-f]{6,7}")


class Machine:
    """A guest, booted and patched on so many virtual CPUs; it can be run again and again.

    Args:
        image: the guest.
        backend: of `HYPERVISORS`.
        vcpus: how many.
        patched: its sites are patched.
        recorder: told of everything that happens.
        touches: accesses to the lock are watched too, which costs a call into Python each.

    Raises:
        RunError: the protocol has no such backend, or too many CPUs.
    """

    def __init__(
        self,
        image: LockImage,
        backend: str,
        vcpus: int,
        *,
        patched: bool = True,
        recorder: Recorder | None = None,
        touches: bool = False,
    ) -> None:
        if backend not in image.protocol.backends:
            known = there_are(backend, image.protocol.backends)
            raise RunError(f"{image.protocol.name} has no backend {backend}{known}")
        if not 1 <= vcpus <= CPUS:
            raise RunError(f"{vcpus} virtual CPUs: 1 to {CPUS}")
        self.image = image
        self.backend = backend
        self.below = HYPERVISORS[backend](image, vcpus)
        self.below.machine = self
        self.recorder = recorder
        self.patched = patched
        booted = boot.boot(image, self.below, vcpus, patched=patched)
        self.memory, self.cpus, self.patches = booted
        self._contexts = [cpu.uc.context_save() for cpu in self.cpus]
        self._held = bytes(self.memory.buffer)
        self._exit = image.address("exit")
        self._irq_lock = image.address("irq_lock")
        self.counts = Counts(image, self.memory)
        self._made: list[StoreBuffer] = []
        for cpu in self.cpus:
            self._watch(cpu, touches)

    # Of the run that is under way; `begin` makes them.
    stop: Stop | None
    setting: Setting
    watch: Watches
    ticks: Ticks
    patience: Patience
    processors: Processors
    _buffers: list[StoreBuffer]
    calls: Counter[str]
    _wants_block: int | None

    def forms(self) -> dict[str, str]:
        """Op → what its sites are."""
        return self.counts.forms(self.patches if self.patched else None)

    def instruction(self, address: int) -> str:
        """The instruction at an address, as the text has it now, in AT&T syntax."""
        found = self.image.kernel.image.disassemble(address, self.memory.read(address, 16), names=False)
        return _ADDRESS.sub(lambda number: self.image.place(int(number[0], 16)), found[0][2]) if found else ""

    def _watch(self, cpu: Vcpu, touches: bool) -> None:
        recording = self.recorder is not None
        hooks = {
            at: partial(self._stepped, cpu, step) for at, step in self.image.steps.items() if recording or step.mark
        }
        cpu.watch(hooks)
        cpu.watch(self.counts.hooks())
        cpu.watch_halts(self.counts.halts)
        if touches:
            lock = self.image.address("the_lock")
            cpu.watch_accesses(lock, 64, partial(self._touched, cpu))

    # A run

    def run(self, setting: Setting) -> Outcome:
        """Runs it from the start to its end."""
        setting.check()
        if setting.user and self.image.bits != 64:
            raise RunError("user space is that of x86-64: no guest of 32 bits has it")
        self.begin(setting)
        while self.stop is None:
            behind = self.processors.behind()
            if self._alarms and self._fires(behind):
                continue
            if behind is None:
                self.stop = self._nobody()
                break
            self._turn(behind)
        if self.recorder is not None:
            self.recorder.end(self.processors.last())
        return self._outcome(self.stop)

    def begin(self, setting: Setting) -> None:
        """Puts everything where it is before a run."""
        self.setting = setting
        self.memory.buffer[:] = self._held
        told = {"turns": setting.turns, "think": setting.think, "hold": setting.hold, "nr_cpus": len(self.cpus)}
        told["interrupts"] = int(setting.tick > 0 or self.below.interrupts)
        for name in TOLD:
            self.memory.set_number(self.image.address(name), 4, told.get(name, 0))
        self.memory.set_number(self.image.address("the_lock"), 8, self.image.protocol.ticket(setting.ticket))
        for cpu, context in zip(self.cpus, self._contexts, strict=True):
            cpu.uc.context_restore(context)
            cpu.stopped = None
            if setting.user:
                cpu.set("pc", self.image.address("cpu_user"))
        self.below.reset()
        count = len(self.cpus)
        self.watch = Watches(self.image.protocol, count)
        self.random = random.Random(setting.seed)
        self.stop = None
        self.calls = Counter()
        self.executed, self.ticks = 0, Ticks(count)
        self._ran = [0] * len(self.cpus)
        self._next_tick = [setting.tick * (n + 1) // len(self.cpus) for n in range(len(self.cpus))]
        self.done = [False] * count
        self._wants_block = None
        self._alarms: dict[int, int] = {}
        self._asked: list[list[tuple[tuple[str, ...], str]]] = [[] for _ in range(count)]
        self.patience = Patience(self.watch, count, self.image.threshold, self.image.bits)
        self._buffers = self._with_buffers(setting.seed) if setting.buffers else []
        if self.recorder is not None:
            self.recorder.begin(self.image, self.memory, self.cpus, setting.pcpus, self._buffers)
        self.processors = Processors(count, setting, self.watch.owns, self.recorder, self._gone)

    def _with_buffers(self, seed: int) -> list[StoreBuffer]:
        """The CPUs' store buffers, empty."""
        if not self._made:
            text = list(instructions(self.image, self.memory))
            seen = self._noted() if self.recorder is not None else frozenset()
            self._made = [StoreBuffer(cpu, text, seen, partial(self._drained, cpu)) for cpu in self.cpus]
        for n, (cpu, buffer) in enumerate(zip(self.cpus, self._made, strict=True)):
            buffer.begin(random.Random(seed << 8 | n))
            cpu.leaves = buffer.drain
        return self._made

    def _noted(self) -> frozenset[int]:
        """Where the model's variables lie."""
        own, lock = self.image.per_cpu, self.image.address("the_lock")
        found = set()
        for variable in self.image.protocol.variables.values():
            found |= (
                {own(n) + variable.offset for n in range(len(self.cpus))} if variable.own else {lock + variable.offset}
            )
        return frozenset(found)

    def _drained(self, cpu: Vcpu) -> None:
        if self.recorder is not None:
            self.recorder.event(cpu, self.processors.at.now, "drain", DRAIN, known=False)

    def _gone(self, vcpu: int) -> None:
        """It has no physical CPU: what was in that one's buffer has been seen."""
        if self._buffers:
            self._buffers[vcpu].drain()

    def _fires(self, behind: Physical | None) -> bool:
        """The next timer of those that sleep, if no physical CPU is behind it."""
        vcpu, at = min(self._alarms.items(), key=lambda alarm: alarm[1])
        if behind is not None and at > behind.now:
            return False
        del self._alarms[vcpu]
        self._next_tick[vcpu] = min(self._next_tick[vcpu], self._ran[vcpu])
        if self.below.tick(self.cpus[vcpu]):
            if self.recorder is not None:
                self.recorder.event(self.cpus[vcpu], at, "wake", "by its timer")
            self.processors.wake(vcpu, at)
        return True

    def _turn(self, p: Physical) -> None:
        """One quantum of who runs on a physical CPU, or the end of its slice."""
        setting, number = self.setting, p.vcpu
        assert number is not None
        self.processors.at = p
        if p.now >= p.end:
            self.processors.ended(p)
            return
        drawn = 1 + self.random.getrandbits(24) % (2 * setting.quantum - 1) if setting.quantum > 1 else 1
        count = min(drawn, p.end - p.now)
        cpu = self.cpus[number]
        self.processors.enters(number, "spin" if self.watch.spins(number) else "useful", p.now)
        if setting.tick:
            place = cpu.get("pc"), cpu.get("sp")
            self.ticks.about(number, place)
            if self._ran[number] >= self._next_tick[number] and self.below.interrupt(cpu):
                self.ticked(cpu, place)
        if self.below.interrupts:
            self.below.deliver(cpu)
        if self._buffers:
            self._buffers[number].resume()
            cpu.step(count, self._exit)
            self._buffers[number].suspend()
        else:
            cpu.step(count, self._exit)
        p.now += count
        self._ran[number] += count
        self.executed += count
        self.patience.executed(number, 1 if cpu.trapped else count)
        if cpu.stopped is not None:
            self.stop = cpu.stopped
        elif self.watch.broken is not None:
            self.stop = Stop("broken", cpu.get("pc"), self.watch.broken.why)
        elif self.executed > setting.most:
            self.stop = Stop("instructions", cpu.get("pc"), f"more than {setting.most:,} instructions")
        elif self._wants_block == number:
            if setting.tick_sleepers and setting.tick:
                left = self._next_tick[number] - self._ran[number]
                self._alarms[number] = p.now + max(min(left, setting.tick), 0)
            self.processors.leave(p, "blocked")
        elif cpu.get("pc") == self._exit:
            self.done[number] = True
            self.processors.leave(p, "idle")
        elif self._hangs():
            self.stop = Stop("hang", cpu.get("pc"), f"nobody owns the lock, and {self._waiters()} wait for ever")
        elif setting.tick and self.ticks.starve(self._awake()):
            why = f"timer interrupts leave no CPU time for an instruction: --tick {setting.tick} is too often"
            self.stop = Stop("livelock", cpu.get("pc"), why)
        self._wants_block = None

    # What hypervisors ask for

    def trap(self, cpu: Vcpu, kind: str, number: int) -> bool:
        """Hands a trap of a virtual CPU to the hypervisor."""
        return self.below.trap(cpu, kind, number)

    def called(self, cpu: Vcpu, name: str) -> None:
        self.calls[name] += 1
        if self.recorder is not None:
            self.recorder.event(cpu, self.processors.at.now, "call", name)

    def block(self, cpu: Vcpu) -> None:
        self._wants_block = cpu.number
        cpu.pause()

    def wake(self, cpu: Vcpu, number: int) -> None:
        at = self.processors.at
        now = at.now
        self.processors.enters(number, "idle", now)
        if self.recorder is not None:
            self.recorder.event(self.cpus[number], now, "wake", f"by CPU {cpu.number}")
        self.processors.spend(at, self.setting.kick)
        self._alarms.pop(number, None)
        self.processors.wake(number, now, at)

    def kicks(self, cpu: Vcpu) -> None:
        """A kick that the CPU asked for is about to happen: the latest one, where a handler kicks between the two."""
        if self.recorder is not None:
            texts, kind = self._asked[cpu.number].pop()
            for text in texts:
                self.recorder.event(cpu, self.processors.at.now, kind, text)

    def makes_way(self, cpu: Vcpu) -> None:
        self.processors.at.end = self.processors.at.now
        cpu.pause()

    def slept(self, number: int) -> None:
        if self.recorder is not None and self.image.protocol.slept:
            self.recorder.event(self.cpus[number], self.processors.at.now, "step", self.image.protocol.slept)

    def ticked(self, cpu: Vcpu, place: tuple[int, int] | None) -> None:
        if self.ticks.came(cpu.number, place):
            self.patience.between_handlers(cpu.number)
        self.patience.handles(cpu.number)
        self._next_tick[cpu.number] = 1 << 62  # until its handler is done
        if self.recorder is not None:
            self.recorder.event(cpu, self.processors.at.now, "irq", "timer interrupt")

    # What the guest tells

    def _stepped(self, cpu: Vcpu, step: Step, address: int) -> None:
        texts = step.texts if step.when is None else step.when(cpu)
        if step.when is not None and not texts:
            return
        now = self.processors.at.now
        if self._buffers:
            self._buffers[cpu.number].before(address)
        nested = cpu.get(self.image.w.lock.name) == self._irq_lock
        kind = "irq" if nested else "step"
        if self.recorder is not None and step.kicks:
            self._asked[cpu.number].append((texts, kind))
        elif self.recorder is not None:
            for n, text in enumerate(texts):
                self.recorder.event(cpu, now, kind, text, known=not n)
        if step.mark:
            (self.watch.irq if nested else self.watch.main).mark(cpu.number, step.mark, now)
            if nested and step.mark == DONE:
                self.patience.handled(cpu.number)
                self._next_tick[cpu.number] = self._ran[cpu.number] + self.setting.tick
            if self.recorder is not None:
                self.recorder.event(cpu, now, "irq" if nested else "mark", step.mark)
            if self.watch.broken is not None:
                cpu.pause()

    def _touched(self, cpu: Vcpu) -> None:
        self.watch.main.touched(cpu.number)
        if self.watch.broken is not None:
            cpu.pause()

    # Ends

    def _hangs(self) -> bool:
        """Whether nothing can come of it: all who are not done wait for a lock that is free."""
        return all(done or self.patience.in_vain(n, asleep=self._asleep(n)) for n, done in enumerate(self.done))

    def _asleep(self, vcpu: int) -> bool:
        """Whether only a kick wakes it."""
        return self.processors.state(vcpu) == "blocked" and vcpu not in self._alarms

    def _awake(self) -> Iterator[int]:
        """Those who run, or could."""
        return (n for n, done in enumerate(self.done) if not done and self.processors.state(n) != "blocked")

    def _waiters(self) -> str:
        return "CPUs " + ", ".join(str(cpu.number) for cpu in self.cpus if self.watch.waiting(cpu.number))

    def _nobody(self) -> Stop:
        """Why the run ends where no virtual CPU can run."""
        if all(self.done):
            return Stop("done", self._exit, "all CPUs are done")
        word = self.memory.number(self.image.address("the_lock"), 4)
        why = f"{self._waiters()} sleep, and nobody is left to wake them; the lock is {word:#010x}"
        return Stop("deadlock", self.cpus[self.done.index(False)].get("pc"), why)

    def _outcome(self, stop: Stop) -> Outcome:
        self.processors.close()
        broken = self.watch.broken
        if broken is None and stop.kind in ("deadlock", "hang"):
            first = next((c.number for c in self.cpus if self.watch.waiting(c.number)), 0)
            broken = Broken("lost-kick", first, stop.why)
        if broken is None and stop.kind == "done":
            counted, wanted = self.memory.number(self.image.address("counter"), 4), len(self.cpus) * self.setting.turns
            handled = self.memory.number(self.image.address("irq_counter"), 4)
            if (counted, handled) != (wanted, self.ticks.count):
                both = f"{counted} and {handled}, not {wanted} and {self.ticks.count}"
                broken = Broken("lost-update", 0, f"the counters behind the lock and the handlers' are {both}")
        return Outcome(
            setting=self.setting,
            stop=stop,
            broken=broken,
            cycles=self.processors.last(),
            parts=dict(self.processors.parts),
            acquisitions=tuple(self.watch.main.acquisitions),
            waits=tuple(self.watch.main.waits),
            calls=dict(sorted(self.calls.items())),
            blocked=self.processors.blocked,
            instructions=self.executed,
            final_state=f"{self.memory.number(self.image.address('counter'), 4)} {self.watch.main.acquisitions}",
            preempted=(self.processors.preempted[0], self.processors.preempted[1]),
        )
