"""The simulation of ``src/lock/sim`` once more: slow, and built otherwise.

Written from the first page of ``src/lock/sim/mod.rs``. Where the simulator keeps absolute times and a calendar, this
keeps what is *left* of everything that goes on, takes the least of all that, lets that much time pass for everybody,
and looks again. Guest code is generators. Times are Python's integers, in ps.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator
from fractions import Fraction

from lock.slow_parts import ENDLESS, WORD, Code, Cpu, Lock, drawn, ps, stream
from pvops.lock.simulate import Case, Usual


class SlowModel:
    """Runs a case when it is made.

    Attributes:
        events: instants handled.
        waits: of every acquisition of a program, in ps.
        cpus: the virtual CPUs.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        self.fifo = case.protocol not in ("xen-byte-2.6.27", "pv-hybrid")
        assert not isinstance(case.threshold_us, Usual), "say which"
        blocks = case.protocol != "ticket-2.6.25" and case.threshold_us is not None
        self.threshold = ps(case.threshold_us or 0) if blocks else ENDLESS
        self.stretch = ENDLESS if case.ple_us is None else ps(case.ple_us)
        self.slice = ps(case.slice_us)
        self.size = case.vcpus // case.vms
        self.locks = [Lock() for _ in range(case.vms * (case.locks + 1))]
        self.arbiter = stream(case.seed, WORD - 2)
        self.cpus = [
            Cpu(v, v % case.vms, stream(case.seed, 2 * v), stream(case.seed, 2 * v + 1)) for v in range(case.vcpus)
        ]
        self.on: list[Cpu | None] = [None] * case.pcpus
        self.queue: deque[Cpu] = deque()
        self.turn = 0
        self.to_tick = ENDLESS if case.scheduler == "round-robin" else self.slice
        self.waits: list[int] = []
        self.events = 0
        self.left = round(Fraction(case.duration) * 10**12)
        self.start()
        while self.step():
            pass

    # Guest code

    def program(self, cpu: Cpu) -> Generator[tuple[str, int], None, None]:
        first = cpu.machine * (self.case.locks + 1)
        while True:
            yield "think", drawn(self.case.think, cpu.numbers)
            chosen = next(cpu.numbers) * self.case.locks // WORD if self.case.locks > 1 else 0
            hold = drawn(self.case.hold, cpu.numbers)
            yield "lock", first + chosen
            yield "hold", hold
            cpu.acquisitions += 1
            yield "unlock", first + chosen

    def handler(self, cpu: Cpu) -> Generator[tuple[str, int], None, None]:
        lock = (cpu.machine + 1) * (self.case.locks + 1) - 1
        hold = drawn(self.case.irq_hold, cpu.interrupts)
        yield "lock", lock
        yield "hold", hold
        yield "unlock", lock

    def start(self) -> None:
        gang = self.case.scheduler == "gang"
        for cpu in self.cpus:
            cpu.codes = [Code(self.program(cpu))]
            cpu.code.left = next(cpu.code.steps)[1]
            if self.case.irq_interval is not None:
                cpu.interrupt_left = drawn(self.case.irq_interval, cpu.interrupts)
            p = self.seat(cpu) if gang else cpu.number
            if p < self.case.pcpus and not (gang and self.gang(cpu) > 0):
                self.on[p], cpu.pcpu, cpu.place = cpu, p, "guest"
                cpu.slice_left = ENDLESS if gang else (p + 1) * self.slice // self.case.pcpus
            else:
                self.queue.append(cpu)

    # Time

    def until_event(self, cpu: Cpu) -> int:
        if cpu.place != "guest":
            return cpu.overhead_left
        work = min(cpu.code.threshold_left, cpu.stretch_left) if cpu.code.does == "spin" else cpu.code.left
        interrupt = cpu.interrupt_left if len(cpu.codes) == 1 else ENDLESS
        return min(work, interrupt, max(cpu.slice_left, 0))

    def pass_time(self, span: int) -> None:
        self.left -= span
        self.to_tick -= span
        for cpu in self.cpus:
            cpu.spent[cpu.state] += span
            for code in cpu.codes:
                code.waited += span
            if cpu.pcpu is None:
                continue
            cpu.credit -= span
            if cpu.place != "switch":
                cpu.slice_left -= span
            if cpu.place != "guest":
                cpu.overhead_left -= span
                continue
            if len(cpu.codes) == 1:
                cpu.interrupt_left -= span
            if cpu.code.does == "spin":
                cpu.code.threshold_left -= span
                cpu.stretch_left -= span
            else:
                cpu.code.left -= span

    def step(self) -> bool:
        occupied = [cpu for cpu in self.on if cpu is not None]
        span = min([self.until_event(cpu) for cpu in occupied] + [self.to_tick], default=ENDLESS)
        if span > self.left:
            self.pass_time(self.left)
            return False
        self.pass_time(span)
        self.events += 1
        due = [cpu for cpu in occupied if self.until_event(cpu) == 0]
        if due:
            self.handle(due[0])
        else:
            self.tick()
        return True

    def handle(self, cpu: Cpu) -> None:
        if cpu.place == "guest":
            spins = cpu.code.does == "spin"
            if spins and cpu.code.threshold_left == 0:
                cpu.published = True
                self.overhead(cpu, "exit", self.case.exit_us)
            elif spins and cpu.stretch_left == 0:
                self.overhead(cpu, "yield", self.case.exit_us)
            elif not spins and cpu.code.left == 0:
                self.next_step(cpu)
            elif len(cpu.codes) == 1 and cpu.interrupt_left == 0:
                cpu.codes.append(Code(self.handler(cpu)))
                self.next_step(cpu)
            else:
                self.slice_over(cpu)
            return
        place, kicked = cpu.place, cpu.kicks
        if place == "exit" and not cpu.kick_remembered:
            self.leave(cpu)
        elif place == "yield" and self.queue and self.case.scheduler != "gang":
            cpu.boosted = False
            self.make_way(cpu)
        else:
            if place == "exit":
                self.unpublish(cpu)
            if place == "switch":
                cpu.slice_left = ENDLESS if self.case.scheduler == "gang" else self.slice
            self.back_to_guest(cpu)
        if place == "kick" and kicked is not None:
            self.kick_arrives(kicked)

    # Locks

    def next_step(self, cpu: Cpu) -> None:
        """Guest code has done what it did."""
        code = cpu.code
        what, value = next(code.steps)
        if what == "hold":
            code.does, code.left = what, value
        elif what == "unlock":
            kicked = self.give_back(self.locks[value])
            self.after_unlock(cpu)
            if kicked is None:
                self.go_on(cpu)
            else:
                cpu.kicks = kicked
                self.overhead(cpu, "kick", self.case.kick_us)
        else:
            lock = self.locks[value]
            code.lock, code.waited = value, 0
            if lock.held:
                code.does, code.threshold_left = "spin", self.threshold
                cpu.stretch_left = self.stretch
                lock.waiting.append((cpu, code))
            else:
                lock.held = True
                self.has_lock(cpu, code)

    def after_unlock(self, cpu: Cpu) -> None:
        """The program thinks; a handler returns to it."""
        if len(cpu.codes) == 1:
            cpu.code.does, cpu.code.left = next(cpu.code.steps)
        else:
            cpu.codes.pop()
            assert self.case.irq_interval is not None
            cpu.interrupt_left = drawn(self.case.irq_interval, cpu.interrupts)

    def has_lock(self, cpu: Cpu, code: Code) -> None:
        if code is cpu.codes[0]:
            self.waits.append(code.waited)
        code.handed = False
        code.does, code.left = next(code.steps)

    def watches(self, cpu: Cpu, code: Code) -> bool:
        return cpu.place == "guest" and cpu.code is code

    def give_back(self, lock: Lock) -> Cpu | None:
        """Whom to kick."""
        lock.held = False
        if not lock.waiting:
            return None
        if self.case.protocol == "xen-byte-2.6.27":
            watching = [pair for pair in lock.waiting if self.watches(*pair)]
            if watching:
                chosen = next(self.arbiter) * len(watching) // WORD if len(watching) > 1 else 0
                self.hand(lock, *watching[chosen])
            asleep = [cpu for cpu, code in lock.waiting if cpu.published and cpu.code is code]
            return min(asleep, key=lambda cpu: cpu.number, default=None)
        cpu, code = lock.waiting[0]
        if self.watches(cpu, code):
            self.hand(lock, cpu, code)
            return None
        if self.fifo or code.waited >= ps(self.case.patience_us):
            lock.held = code.handed = True
            del lock.waiting[0]
        if not (cpu.published and cpu.code is code) or cpu.kick_under_way:
            return None
        cpu.kick_under_way = True
        return cpu

    def hand(self, lock: Lock, cpu: Cpu, code: Code) -> None:
        lock.waiting.remove((cpu, code))
        lock.held = True
        self.has_lock(cpu, code)

    def look(self, cpu: Cpu) -> None:
        """A waiter begins to watch."""
        code = cpu.code
        cpu.stretch_left = self.stretch
        if code.handed:
            self.has_lock(cpu, code)
            return
        lock = self.locks[code.lock]
        may = self.case.protocol == "xen-byte-2.6.27" or (not self.fifo and lock.waiting[0] == (cpu, code))
        if may and not lock.held:
            self.hand(lock, cpu, code)

    def kick_arrives(self, cpu: Cpu) -> None:
        if cpu.place == "exit":
            cpu.kick_remembered = True
        elif cpu.place == "asleep":
            self.unpublish(cpu)
            self.woken(cpu)

    def unpublish(self, cpu: Cpu) -> None:
        cpu.published = cpu.kick_under_way = cpu.kick_remembered = False
        cpu.code.threshold_left = self.threshold

    # The hypervisor

    def overhead(self, cpu: Cpu, place: str, cost_us: float) -> None:
        cpu.place, cpu.overhead_left = place, ps(cost_us)

    def go_on(self, cpu: Cpu) -> None:
        cpu.place = "guest"
        if cpu.code.does == "spin":
            self.look(cpu)

    def rank(self, cpu: Cpu) -> int:
        if self.case.scheduler != "credit":
            return 1
        return 0 if cpu.boosted else 1 if cpu.credit >= 0 else 2

    def gang(self, cpu: Cpu) -> int:
        return cpu.machine * math.ceil(self.size / self.case.pcpus) + cpu.number // self.case.vms // self.case.pcpus

    def seat(self, cpu: Cpu) -> int:
        return cpu.number // self.case.vms % self.case.pcpus

    def back_to_guest(self, cpu: Cpu) -> None:
        if self.case.scheduler == "gang":
            away = self.gang(cpu) != self.turn
        else:
            away = not cpu.boosted and any(waiting.boosted for waiting in self.queue)
        if away:
            self.make_way(cpu)
        else:
            self.go_on(cpu)

    def chosen_for(self, p: int) -> Cpu | None:
        if self.case.scheduler == "gang":
            mine = (c for c in self.cpus if self.gang(c) == self.turn and self.seat(c) == p)
            return next((c for c in mine if c.place == "ready"), None)
        # The queue is in the order of coming, and of equals min() takes the first.
        chosen = min(self.queue, key=self.rank, default=None)
        if chosen is not None:
            self.queue.remove(chosen)
        return chosen

    def make_way(self, cpu: Cpu) -> None:
        """Another runs instead."""
        assert cpu.pcpu is not None
        p, chosen = cpu.pcpu, self.chosen_for(cpu.pcpu)
        self.vacate(cpu, "ready")
        self.queue.append(cpu)
        self.board(chosen, p)

    def leave(self, cpu: Cpu) -> None:
        """Sleeps."""
        assert cpu.pcpu is not None
        p = cpu.pcpu
        self.vacate(cpu, "asleep")
        self.board(self.chosen_for(p), p)

    def vacate(self, cpu: Cpu, place: str) -> None:
        assert cpu.pcpu is not None
        self.on[cpu.pcpu] = None
        cpu.pcpu, cpu.place, cpu.boosted = None, place, False

    def board(self, cpu: Cpu | None, p: int) -> None:
        if cpu is not None:
            self.on[p], cpu.pcpu = cpu, p
            self.overhead(cpu, "switch", self.case.switch_us)

    def woken(self, cpu: Cpu) -> None:
        cpu.place = "ready"
        if self.case.scheduler == "gang":
            if self.gang(cpu) == self.turn and self.on[self.seat(cpu)] is None:
                self.board(cpu, self.seat(cpu))
            return
        cpu.boosted = self.case.scheduler == "credit" and cpu.credit >= 0
        if None in self.on:
            self.board(cpu, self.on.index(None))
            return
        self.queue.append(cpu)
        victims = [c for c in self.on if c is not None and c.place == "guest" and not c.boosted]
        if cpu.boosted and victims:
            self.make_way(min(victims, key=lambda c: (self.rank(c) == 1, c.slice_left, c.pcpu)))

    def slice_over(self, cpu: Cpu) -> None:
        cpu.boosted = False
        if any(self.rank(waiting) <= self.rank(cpu) for waiting in self.queue):
            self.make_way(cpu)
        else:
            cpu.slice_left = self.slice

    def tick(self) -> None:
        self.to_tick = self.slice
        if self.case.scheduler == "credit":
            over = [cpu for cpu in self.queue if self.rank(cpu) == 2]
            for cpu in self.cpus:
                share = self.slice * self.case.pcpus // self.case.vcpus
                cpu.credit = max(-self.slice, min(self.slice, cpu.credit + share))
            for cpu in over:
                if self.rank(cpu) < 2:
                    self.queue.remove(cpu)
                    self.queue.append(cpu)
            return
        gangs = max(self.gang(cpu) for cpu in self.cpus) + 1
        awake = {self.gang(cpu) for cpu in self.cpus if cpu.place != "asleep"}
        turn = next((t for i in range(1, gangs + 1) if (t := (self.turn + i) % gangs) in awake), self.turn)
        if turn == self.turn:
            return
        self.turn = turn
        for p, running in enumerate(self.on):
            if running is None:
                self.board(self.chosen_for(p), p)
            elif running.place == "guest":
                self.make_way(running)
