//! Which virtual CPU runs where.

use super::calendar::NEVER;
use super::engine::Simulation;
use super::params::Scheduler;
use super::queues::{BOOST, OVER, UNDER};
use super::report::Preempted;
use super::state::{Doing, NONE, Phase, State};

impl Simulation {
    fn credit_left(&self, v: usize) -> i64 {
        let vcpu = &self.vcpus[v];
        let unpaid = if vcpu.on == NONE { 0 } else { self.now - vcpu.charged };
        vcpu.credit - unpaid as i64
    }

    fn class(&self, v: usize) -> usize {
        match self.params.scheduler {
            Scheduler::Credit if self.vcpus[v].boosted => BOOST,
            Scheduler::Credit if self.credit_left(v) < 0 => OVER,
            _ => UNDER,
        }
    }

    /// Whether no virtual CPU of the same or a higher class waits for a physical one.
    fn unrivalled(&self, v: usize) -> bool {
        self.queues.best().is_none_or(|best| best > self.class(v))
    }

    pub(super) fn enqueue(&mut self, v: usize) {
        let class = self.class(v);
        self.queues.classes[class].push_back(v as u32);
    }

    /// Puts a virtual CPU on a physical one.
    pub(super) fn place(&mut self, v: usize, p: usize) {
        self.pcpus[p].current = v as u32;
        self.idle_pcpus -= 1;
        self.vcpus[v].on = p as u32;
        self.vcpus[v].charged = self.now;
    }

    /// Takes a virtual CPU off its physical one; from now on it is in this state.
    fn vacate(&mut self, v: usize, p: usize, state: State, phase: Phase) {
        self.enter(v, state);
        let credit = self.credit_left(v);
        let vcpu = &mut self.vcpus[v];
        (vcpu.credit, vcpu.on, vcpu.phase, vcpu.boosted) = (credit, NONE, phase, false);
        self.pcpus[p].current = NONE;
        self.idle_pcpus += 1;
        self.calendar.set(p, NEVER);
    }

    /// Begins to put a virtual CPU on a physical one.
    fn dispatch(&mut self, v: usize, p: usize) {
        self.counters.switches += 1;
        self.enter(v, State::Overhead);
        self.place(v, p);
        self.overhead(v, Phase::Switch, self.params.switch);
    }

    /// Chooses the next virtual CPU for a physical one.
    fn next_for(&mut self, p: usize) -> Option<usize> {
        if self.params.scheduler == Scheduler::Gang {
            return self.gang_member(self.queues.gang, p).filter(|&v| self.vcpus[v].phase == Phase::Ready);
        }
        self.queues.pop()
    }

    fn fill(&mut self, p: usize) {
        if let Some(next) = self.next_for(p) {
            self.dispatch(next, p);
        }
    }

    /// Preempts the virtual CPU that runs on a physical one, in favour of the next in the queues.
    fn preempt(&mut self, v: usize, p: usize) {
        self.counters.preemptions += 1;
        if self.vcpus[v].holds() {
            self.holder_preempted(v, p);
        } else if self.vcpus[v].frame().doing == Doing::Spin {
            self.counters.preempted_waiters += 1;
        }
        self.make_way(v, p);
    }

    /// The running virtual CPU goes to the end of its queue, and the next one is dispatched.
    fn make_way(&mut self, v: usize, p: usize) {
        let next = self.next_for(p);
        self.vacate(v, p, State::Idle, Phase::Ready);
        if self.params.scheduler != Scheduler::Gang {
            self.enqueue(v);
        }
        if let Some(next) = next {
            self.dispatch(next, p);
        }
    }

    fn holder_preempted(&mut self, v: usize, p: usize) {
        self.counters.preempted_holders += 1;
        let program = &self.vcpus[v].frames[0];
        let holds = program.doing == Doing::Hold;
        if self.preempted.is_none() && holds {
            let waiters = self.locks[program.lock as usize].waiters.len();
            self.preempted = Some(Preempted { at: self.now, vcpu: v, pcpu: p, waiters });
        }
    }

    pub(super) fn begin_slice(&mut self, p: usize) {
        let gang = self.params.scheduler == Scheduler::Gang;
        self.pcpus[p].slice_end = if gang { NEVER } else { self.now + self.params.slice };
    }

    /// The hypervisor is done with its work for a virtual CPU: back to the guest, unless another must go first.
    pub(super) fn resume(&mut self, v: usize, p: usize) {
        let leave = match self.params.scheduler {
            Scheduler::RoundRobin => false,
            Scheduler::Credit => !self.vcpus[v].boosted && self.queues.best() == Some(BOOST),
            Scheduler::Gang => self.gang_of(v) != self.queues.gang,
        };
        if leave {
            self.preempt(v, p);
        } else {
            self.run_guest(v, p);
        }
    }

    /// The end of a slice in guest code.
    pub(super) fn slice_ended(&mut self, v: usize, p: usize) {
        self.vcpus[v].boosted = false;
        if self.unrivalled(v) {
            self.begin_slice(p);
            self.await_guest(v, p);
        } else {
            self.stop_guest(v);
            self.preempt(v, p);
        }
    }

    /// The end of a pause-loop exit: lets another run, if one waits.
    pub(super) fn yielded(&mut self, v: usize, p: usize) {
        if self.params.scheduler == Scheduler::Gang || self.queues.best().is_none() {
            self.resume(v, p);
        } else {
            self.vcpus[v].boosted = false;
            self.make_way(v, p);
        }
    }

    /// A virtual CPU that waits for a lock blocks until it is kicked.
    pub(super) fn sleep(&mut self, v: usize, p: usize) {
        self.vacate(v, p, State::Blocked, Phase::Blocked);
        self.fill(p);
    }

    /// A blocked virtual CPU was kicked: it can run.
    pub(super) fn wake(&mut self, v: usize) {
        self.enter(v, State::Idle);
        self.vcpus[v].phase = Phase::Ready;
        let credit = self.params.scheduler == Scheduler::Credit;
        if self.params.scheduler == Scheduler::Gang {
            let p = self.gang_place(v);
            if self.gang_of(v) == self.queues.gang && self.pcpus[p].current == NONE {
                self.dispatch(v, p);
            }
            return;
        }
        self.vcpus[v].boosted = credit && self.vcpus[v].credit >= 0;
        if self.idle_pcpus > 0 {
            if let Some(p) = self.pcpus.iter().position(|pcpu| pcpu.current == NONE) {
                self.dispatch(v, p);
            }
            return;
        }
        self.enqueue(v);
        if self.vcpus[v].boosted
            && let Some(p) = self.victim()
        {
            let current = self.pcpus[p].current as usize;
            self.stop_guest(current);
            self.preempt(current, p);
        }
    }

    /// Where someone boosted may go: where guest code runs that is not boosted; over its share before under, then the
    /// one whose slice ends first, then the lowest.
    fn victim(&self) -> Option<usize> {
        (0..self.pcpus.len())
            .filter(|&p| {
                let vcpu = &self.vcpus[self.pcpus[p].current as usize];
                vcpu.phase == Phase::Guest && !vcpu.boosted
            })
            .min_by_key(|&p| {
                let over = self.class(self.pcpus[p].current as usize) == OVER;
                (!over, self.pcpus[p].slice_end, p)
            })
    }

    /// What comes to all at once, each slice: credits, or the next gang.
    pub(super) fn tick(&mut self) {
        self.next_tick = self.now + self.params.slice;
        if self.params.scheduler == Scheduler::Gang {
            self.rotate();
        } else {
            self.pay();
        }
    }

    /// Shares the time of the physical CPUs out; nobody saves, or owes, more than a slice.
    fn pay(&mut self) {
        let slice = self.params.slice as i64;
        let total = u128::from(self.params.slice) * self.pcpus.len() as u128;
        let share = (total / self.vcpus.len() as u128) as i64;
        for v in 0..self.vcpus.len() {
            let credit = self.credit_left(v).saturating_add(share).clamp(-slice, slice);
            let now = self.now;
            let vcpu = &mut self.vcpus[v];
            (vcpu.credit, vcpu.charged) = (credit, now);
        }
        let over = std::mem::take(&mut self.queues.classes[OVER]);
        for v in over {
            self.enqueue(v as usize);
        }
    }

    fn gangs_per_vm(&self) -> usize {
        self.params.vm_size().div_ceil(self.pcpus.len())
    }

    pub(super) fn gang_of(&self, v: usize) -> usize {
        v % self.params.vms * self.gangs_per_vm() + v / self.params.vms / self.pcpus.len()
    }

    /// The physical CPU of a virtual one.
    pub(super) fn gang_place(&self, v: usize) -> usize {
        v / self.params.vms % self.pcpus.len()
    }

    fn gang_member(&self, gang: usize, p: usize) -> Option<usize> {
        let per_vm = self.gangs_per_vm();
        let inside = gang % per_vm * self.pcpus.len() + p;
        (inside < self.params.vm_size()).then(|| inside * self.params.vms + gang / per_vm)
    }

    /// The turn of the next gang that has someone awake.
    fn rotate(&mut self) {
        let (gangs, active) = (self.params.vms * self.gangs_per_vm(), self.queues.gang);
        let awake = |gang: &usize| {
            (0..self.pcpus.len())
                .filter_map(|p| self.gang_member(*gang, p))
                .any(|v| self.vcpus[v].phase != Phase::Blocked)
        };
        let next = (1..=gangs).map(|i| (active + i) % gangs).find(awake).unwrap_or(active);
        if next == active {
            return;
        }
        self.queues.gang = next;
        for p in 0..self.pcpus.len() {
            let current = self.pcpus[p].current;
            if current == NONE {
                self.fill(p);
            } else if self.vcpus[current as usize].phase == Phase::Guest {
                self.stop_guest(current as usize);
                self.preempt(current as usize, p);
            }
        }
    }
}
