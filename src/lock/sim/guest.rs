//! What guest code does: think, ask for a lock, spin, hold it, give it back; and interrupt handlers.

use super::calendar::NEVER;
use super::engine::Simulation;
use super::protocol::Order;
use super::state::{Doing, NONE, Phase, State, Waiter};

impl Simulation {
    /// When the physical CPU must be looked at again, for a virtual CPU that runs guest code on it.
    #[inline]
    pub(super) fn await_guest(&mut self, v: usize, p: usize) {
        let vcpu = &self.vcpus[v];
        let slice_end = self.pcpus[p].slice_end.max(self.now);
        self.calendar.set(p, vcpu.until.min(vcpu.interrupt_at).min(slice_end));
    }

    /// The hypervisor works for a virtual CPU, on its physical CPU.
    pub(super) fn overhead(&mut self, v: usize, phase: Phase, cost: u64) {
        self.enter(v, State::Overhead);
        let vcpu = &mut self.vcpus[v];
        vcpu.phase = phase;
        vcpu.until = self.now + cost;
        self.calendar.set(vcpu.on as usize, vcpu.until);
    }

    /// Goes on with what a virtual CPU was doing. A waiter first looks whether it has the lock.
    pub(super) fn run_guest(&mut self, v: usize, p: usize) {
        let depth = self.vcpus[v].depth;
        if self.vcpus[v].frames[depth].doing == Doing::Spin && self.may_take(v, depth) {
            self.take(Waiter { vcpu: v as u32, depth: depth as u8 });
        }
        let doing = self.vcpus[v].frames[depth].doing;
        let interruptible = depth == 0 && self.params.interrupts.is_some();
        let vcpu = &mut self.vcpus[v];
        vcpu.phase = Phase::Guest;
        vcpu.interrupt_at = if interruptible { self.now + vcpu.interrupt_left } else { NEVER };
        match doing {
            Doing::Spin => return self.spin(v, p),
            Doing::Think | Doing::Hold => vcpu.until = self.now + vcpu.frames[depth].left,
        }
        self.enter(v, if doing == Doing::Think { State::Think } else { State::Hold });
        self.await_guest(v, p);
    }

    /// Stops guest code, such that [`Simulation::run_guest`] can go on with it.
    pub(super) fn stop_guest(&mut self, v: usize) {
        let now = self.now;
        let vcpu = &mut self.vcpus[v];
        if vcpu.interrupt_at != NEVER {
            vcpu.interrupt_left = vcpu.interrupt_at - now;
            vcpu.interrupt_at = NEVER;
        }
        let (until, since) = (vcpu.until, vcpu.spins_since);
        let frame = vcpu.frame();
        match frame.doing {
            Doing::Spin if frame.budget != NEVER => frame.budget -= now - since,
            Doing::Spin => {}
            Doing::Think | Doing::Hold => frame.left = until - now,
        }
    }

    fn spin(&mut self, v: usize, p: usize) {
        self.enter(v, State::Spin);
        let (now, ple) = (self.now, self.ple);
        let vcpu = &mut self.vcpus[v];
        vcpu.spins_since = now;
        vcpu.until = now.saturating_add(vcpu.frame().budget.min(ple));
        self.await_guest(v, p);
    }

    /// The end of thinking.
    #[inline]
    pub(super) fn ask(&mut self, v: usize, p: usize) {
        let think = self.params.think;
        let vcpu = &mut self.vcpus[v];
        let (lock, hold) = (vcpu.ahead_lock, vcpu.ahead);
        vcpu.ahead = think.draw(&mut vcpu.program);
        if self.acquire(v, 0, lock, hold) {
            let vcpu = &mut self.vcpus[v];
            vcpu.until = self.now + hold;
            self.enter(v, State::Hold);
            self.await_guest(v, p);
        } else {
            self.spin(v, p);
        }
    }

    /// Draws the next lock and how long it will be held.
    #[inline]
    pub(super) fn draw_hold(&mut self, v: usize) {
        let (locks, hold) = (self.params.locks, self.params.hold);
        let vcpu = &mut self.vcpus[v];
        if locks > 1 {
            vcpu.ahead_lock = vcpu.locks + vcpu.program.below(locks as u64) as usize;
        }
        vcpu.ahead = hold.draw(&mut vcpu.program);
    }

    /// Asks for a lock; whether it is had at once.
    #[inline]
    fn acquire(&mut self, v: usize, depth: usize, lock: usize, hold: u64) -> bool {
        let waiter = Waiter { vcpu: v as u32, depth: depth as u8 };
        let frame = &mut self.vcpus[v].frames[depth];
        (frame.lock, frame.hold, frame.asked) = (lock as u32, hold, self.now);
        let lock = &mut self.locks[lock];
        if lock.held {
            lock.waiters.push_back(waiter);
            frame.doing = Doing::Spin;
            frame.budget = self.threshold;
            return false;
        }
        lock.held = true;
        self.take(waiter);
        true
    }

    /// An interrupt: its handler asks for the interrupt lock of the virtual machine.
    pub(super) fn interrupt(&mut self, v: usize, p: usize) {
        self.stop_guest(v);
        self.counters.interrupts += 1;
        let lock = self.vcpus[v].locks + self.params.locks;
        let vcpu = &mut self.vcpus[v];
        vcpu.depth = 1;
        let hold = self.params.interrupts.map_or(0, |i| i.hold.draw(&mut vcpu.interrupts));
        self.acquire(v, 1, lock, hold);
        self.run_guest(v, p);
    }

    /// The end of holding: gives the lock back, and kicks who must be kicked.
    #[inline]
    pub(super) fn release(&mut self, v: usize, p: usize) {
        let depth = self.vcpus[v].depth;
        let lock = self.vcpus[v].frames[depth].lock as usize;
        self.vcpus[v].acquisitions += u64::from(depth == 0);
        let target = self.hand_over(lock);
        if target != NONE {
            self.counters.kicks += 1;
            self.stop_guest(v);
            self.go_on(v);
            self.vcpus[v].target = target;
            self.overhead(v, Phase::Kick, self.params.kick);
            return;
        }
        self.go_on(v);
        if depth == 1 {
            return self.run_guest(v, p);
        }
        // What run_guest() does too, without its questions: this is the way most unlocks take.
        let vcpu = &mut self.vcpus[v];
        vcpu.until = self.now + vcpu.frames[0].left;
        self.enter(v, State::Think);
        self.await_guest(v, p);
    }

    /// What comes after a critical section: the program thinks, a handler returns.
    #[inline]
    fn go_on(&mut self, v: usize) {
        let vcpu = &mut self.vcpus[v];
        if vcpu.depth == 0 {
            vcpu.frames[0].doing = Doing::Think;
            vcpu.frames[0].left = vcpu.ahead;
            self.draw_hold(v);
        } else {
            vcpu.depth = 0;
            if let Some(interrupts) = self.params.interrupts {
                vcpu.interrupt_left = interrupts.interval.draw(&mut vcpu.interrupts);
            }
        }
    }

    /// The end of a stretch of spinning: blocks past the threshold, or else pause-loop exiting takes it out.
    pub(super) fn spun(&mut self, v: usize) {
        self.stop_guest(v);
        let vcpu = &mut self.vcpus[v];
        if vcpu.frame().budget == 0 {
            vcpu.published = true;
            self.counters.blocks += 1;
            self.overhead(v, Phase::Exit, self.params.exit);
        } else {
            self.counters.pause_loop_exits += 1;
            self.overhead(v, Phase::Yield, self.params.exit);
        }
    }

    /// Whether a waiter that looks has the lock; then it is no waiter any more.
    fn may_take(&mut self, v: usize, depth: usize) -> bool {
        let frame = &self.vcpus[v].frames[depth];
        if frame.granted {
            return true;
        }
        let lock = &mut self.locks[frame.lock as usize];
        if lock.held {
            return false;
        }
        let me = |w: &Waiter| w.vcpu as usize == v && usize::from(w.depth) == depth;
        let place = match self.order {
            Order::Fifo => None,
            Order::Any => lock.waiters.iter().position(me),
            Order::Steal => lock.waiters.front().filter(|w| me(w)).map(|_| 0),
        };
        let Some(place) = place else { return false };
        lock.waiters.remove(place);
        lock.held = true;
        true
    }

    /// Gives a lock back. Returns whom to kick, or NONE.
    #[inline]
    fn hand_over(&mut self, lock: usize) -> u32 {
        if self.locks[lock].waiters.is_empty() {
            self.locks[lock].held = false;
            return NONE;
        }
        match self.order {
            Order::Fifo => self.hand_to_next(lock),
            Order::Any => self.free_for_any(lock),
            Order::Steal => self.free_or_hand_over(lock),
        }
    }

    fn hand_to_next(&mut self, lock: usize) -> u32 {
        let Some(next) = self.locks[lock].waiters.pop_front() else { return NONE };
        if self.watches(next) {
            self.take_running(next);
            return NONE;
        }
        self.vcpus[next.vcpu as usize].frames[usize::from(next.depth)].granted = true;
        if self.sleeps(next) { next.vcpu } else { NONE }
    }

    fn free_for_any(&mut self, lock: usize) -> u32 {
        let spinning = self.locks[lock].waiters.iter().filter(|w| self.watches(**w)).count() as u64;
        let chosen = if spinning > 1 { self.arbiter.below(spinning) as usize } else { 0 };
        let place =
            self.locks[lock].waiters.iter().enumerate().filter(|(_, w)| self.watches(**w)).nth(chosen).map(|(i, _)| i);
        match place.and_then(|place| self.locks[lock].waiters.remove(place)) {
            Some(next) => self.take_running(next),
            None => self.locks[lock].held = false,
        }
        let sleeping = self.locks[lock].waiters.iter().filter(|w| self.sleeps(**w));
        sleeping.map(|w| w.vcpu).min().unwrap_or(NONE)
    }

    fn free_or_hand_over(&mut self, lock: usize) -> u32 {
        let Some(&head) = self.locks[lock].waiters.front() else { return NONE };
        if self.watches(head) {
            self.locks[lock].waiters.pop_front();
            self.take_running(head);
            return NONE;
        }
        let frame = &mut self.vcpus[head.vcpu as usize].frames[usize::from(head.depth)];
        if self.now - frame.asked >= self.params.patience {
            frame.granted = true;
            self.locks[lock].waiters.pop_front();
            self.counters.direct_hand_offs += 1;
        } else {
            self.locks[lock].held = false;
        }
        if self.sleeps(head) && !self.vcpus[head.vcpu as usize].kicked {
            self.vcpus[head.vcpu as usize].kicked = true;
            return head.vcpu;
        }
        NONE
    }

    fn watches(&self, waiter: Waiter) -> bool {
        self.vcpus[waiter.vcpu as usize].watches(usize::from(waiter.depth))
    }

    /// Whether a waiter has said that it blocks, so that only a kick brings it on.
    fn sleeps(&self, waiter: Waiter) -> bool {
        let vcpu = &self.vcpus[waiter.vcpu as usize];
        vcpu.published && vcpu.depth == usize::from(waiter.depth)
    }

    /// A waiter that runs notices at once that the lock is its own.
    fn take_running(&mut self, waiter: Waiter) {
        let v = waiter.vcpu as usize;
        self.take(waiter);
        self.enter(v, State::Hold);
        let vcpu = &mut self.vcpus[v];
        vcpu.until = self.now + vcpu.frame().left;
        let p = vcpu.on as usize;
        self.await_guest(v, p);
    }

    /// A kick arrives.
    pub(super) fn deliver(&mut self, target: usize) {
        match self.vcpus[target].phase {
            Phase::Blocked => {
                self.awake(target);
                self.wake(target);
            }
            Phase::Exit => self.vcpus[target].latched = true,
            _ => self.counters.late_kicks += 1,
        }
    }

    /// The end of leaving the guest: sleeps, unless a kick came first.
    pub(super) fn exited(&mut self, v: usize, p: usize) {
        if self.vcpus[v].latched {
            self.awake(v);
            self.resume(v, p);
        } else {
            self.sleep(v, p);
        }
    }

    /// After a kick a waiter spins anew.
    fn awake(&mut self, v: usize) {
        let threshold = self.threshold;
        let vcpu = &mut self.vcpus[v];
        (vcpu.latched, vcpu.published, vcpu.kicked) = (false, false, false);
        vcpu.frame().budget = threshold;
    }
}
