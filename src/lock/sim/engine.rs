//! The loop over events, and the accounts of the time of virtual CPUs.

use super::calendar::{Calendar, NEVER};
use super::histogram::Histogram;
use super::params::{Params, Scheduler};
use super::protocol::Order;
use super::queues::Queues;
use super::random::Stream;
use super::record::{Record, Span};
use super::report::{Counters, Preempted, Report};
use super::state::{Doing, Lock, NONE, Pcpu, Phase, State, Vcpu, Waiter};
use crate::error::Result;

/// A simulation under way.
#[derive(Debug)]
pub struct Simulation {
    pub(super) params: Params,
    pub(super) order: Order,
    /// NEVER where the waiter never blocks.
    pub(super) threshold: u64,
    pub(super) ple: u64,
    pub(super) now: u64,
    pub(super) calendar: Calendar,
    /// When the scheduler next looks at all virtual CPUs: adds credit, or changes the gang.
    pub(super) next_tick: u64,
    pub(super) vcpus: Vec<Vcpu>,
    pub(super) pcpus: Vec<Pcpu>,
    pub(super) idle_pcpus: usize,
    /// Of each virtual machine: its locks, and behind them the one that interrupt handlers take.
    pub(super) locks: Vec<Lock>,
    pub(super) queues: Queues,
    /// Chooses among those who spin on a free byte lock.
    pub(super) arbiter: Stream,
    pub(super) counters: Counters,
    pub(super) preempted: Option<Preempted>,
    spent: [u64; State::COUNT],
    waits: Histogram,
    events: u64,
    record: Record,
    finished: bool,
}

impl Simulation {
    /// Everything as it is at time 0.
    ///
    /// # Errors
    /// A parameter makes no sense.
    pub fn new(params: &Params) -> Result<Simulation> {
        params.check()?;
        let lock_count = params.vms * (params.locks + 1);
        let vcpu = |v: usize| Vcpu::new(params.seed, v, v % params.vms * (params.locks + 1));
        let mut simulation = Simulation {
            order: params.protocol.order(),
            threshold: params.effective_threshold().unwrap_or(NEVER),
            ple: params.ple.unwrap_or(NEVER),
            now: 0,
            calendar: Calendar::new(params.pcpus),
            next_tick: if params.scheduler == Scheduler::RoundRobin { NEVER } else { params.slice },
            vcpus: (0..params.vcpus).map(vcpu).collect(),
            pcpus: (0..params.pcpus).map(|_| Pcpu { current: NONE, slice_end: NEVER }).collect(),
            idle_pcpus: params.pcpus,
            locks: (0..lock_count).map(|_| Lock::default()).collect(),
            queues: Queues::default(),
            arbiter: Stream::new(params.seed, u64::MAX - 1),
            counters: Counters::default(),
            preempted: None,
            spent: [0; State::COUNT],
            waits: Histogram::default(),
            events: 0,
            record: Record::new(0, 0, 0),
            finished: false,
            params: params.clone(),
        };
        simulation.begin();
        Ok(simulation)
    }

    /// The same simulation, which keeps what happens in [from, to), up to so many spans.
    #[must_use]
    pub fn recording(mut self, from: u64, to: u64, most: usize) -> Simulation {
        self.record = Record::new(from, to, most);
        self
    }

    /// Handles up to so many events; whether there are more.
    pub fn run(&mut self, most: u64) -> bool {
        for _ in 0..most {
            if !self.step() {
                return false;
            }
        }
        !self.finished
    }

    /// One event, if there is one before the end.
    #[inline]
    fn step(&mut self) -> bool {
        let (time, slot) = self.calendar.first();
        let tick = self.next_tick < time;
        let time = if tick { self.next_tick } else { time };
        if time > self.params.duration {
            self.finished = true;
            return false;
        }
        self.now = time;
        self.events += 1;
        if tick {
            self.tick();
            return true;
        }
        let v = self.pcpus[slot].current as usize;
        match self.vcpus[v].phase {
            Phase::Guest => self.guest_event(v, slot),
            Phase::Switch => {
                self.begin_slice(slot);
                self.resume(v, slot);
            }
            Phase::Kick => {
                let target = self.vcpus[v].target as usize;
                self.resume(v, slot);
                self.deliver(target);
            }
            Phase::Exit => self.exited(v, slot),
            Phase::Yield => self.yielded(v, slot),
            // Neither has a physical CPU, so neither is anybody's current.
            Phase::Ready | Phase::Blocked => self.calendar.set(slot, NEVER),
        }
        true
    }

    #[inline]
    fn guest_event(&mut self, v: usize, p: usize) {
        let vcpu = &mut self.vcpus[v];
        if vcpu.until == self.now {
            match vcpu.frame().doing {
                Doing::Think => self.ask(v, p),
                Doing::Hold => self.release(v, p),
                Doing::Spin => self.spun(v),
            }
        } else if vcpu.interrupt_at == self.now {
            self.interrupt(v, p);
        } else {
            self.slice_ended(v, p);
        }
    }

    /// Closes the account of what a virtual CPU did until now.
    #[inline]
    pub(super) fn enter(&mut self, v: usize, state: State) {
        let vcpu = &mut self.vcpus[v];
        let (was, since) = (vcpu.state, vcpu.since);
        (vcpu.state, vcpu.since) = (state, self.now);
        self.spent[was as usize] += self.now - since;
        if self.record.wants(since) {
            let pcpu = (vcpu.on != NONE).then_some(vcpu.on);
            self.record.add(Span { vcpu: v as u32, pcpu, state: was, from: since, to: self.now });
        }
    }

    /// Gives a waiter the lock that it waited for, or found free.
    #[inline]
    pub(super) fn take(&mut self, waiter: Waiter) {
        let frame = &mut self.vcpus[waiter.vcpu as usize].frames[usize::from(waiter.depth)];
        frame.doing = Doing::Hold;
        frame.granted = false;
        frame.left = frame.hold;
        if waiter.depth == 0 {
            self.waits.add(self.now - frame.asked);
        }
    }

    /// Closes all accounts. What is asked before [`Simulation::run`] has said that there is no more is what was until then.
    #[must_use]
    pub fn report(mut self) -> Report {
        if self.finished {
            self.now = self.params.duration;
        }
        let mut longest = self.waits.longest();
        for v in 0..self.vcpus.len() {
            let state = self.vcpus[v].state;
            self.enter(v, state);
            let program = &self.vcpus[v].frames[0];
            if program.doing == Doing::Spin {
                longest = longest.max(self.now - program.asked);
            }
        }
        Report {
            vcpus: self.params.vcpus,
            pcpus: self.params.pcpus,
            duration: self.now,
            spent: self.spent,
            acquisitions: self.vcpus.iter().map(|v| v.acquisitions).collect(),
            waits: self.waits,
            longest_wait: longest,
            events: self.events,
            counters: self.counters,
            preempted: self.preempted,
            spans: self.record.into_spans(),
        }
    }

    /// Time 0: the first virtual CPUs run at once, and their slices end one after the other.
    fn begin(&mut self) {
        for v in 0..self.vcpus.len() {
            let think = self.params.think;
            let vcpu = &mut self.vcpus[v];
            vcpu.frames[0].left = think.draw(&mut vcpu.program);
            self.draw_hold(v);
            let vcpu = &mut self.vcpus[v];
            if let Some(interrupts) = self.params.interrupts {
                vcpu.interrupt_left = interrupts.interval.draw(&mut vcpu.interrupts);
            }
        }
        let gang = self.params.scheduler == Scheduler::Gang;
        for v in 0..self.vcpus.len() {
            let p = if gang { self.gang_place(v) } else { v };
            if p < self.pcpus.len() && (!gang || self.gang_of(v) == 0) {
                let share = (v as u128 + 1) * u128::from(self.params.slice) / self.pcpus.len() as u128;
                self.pcpus[p].slice_end = if gang { NEVER } else { share as u64 };
                self.place(v, p);
                self.run_guest(v, p);
            } else if !gang {
                self.enqueue(v);
            }
        }
    }
}
