//! The machine: x86-TSO, a kernel with futexes and membarrier, and a hypervisor that kicks.
//!
//! Each thread has a FIFO store buffer. A store goes into it and drains to memory at any time later; a load takes the
//! newest buffered store of its own thread to the place, else memory; a locked instruction or fence waits until the
//! own buffer is empty (P. Sewell et al., *x86-TSO*, CACM 2010). What kernel and hypervisor do is taken to be as weak
//! as is documented: `FUTEX_WAIT` is a full barrier before it compares (kernel/futex), waking and kicking are none.
//! Nobody wakes spuriously: a spurious wake would only hide that the real one was lost.

use std::fmt;

use super::MAX_THREADS;
use super::layout::{Field, Layout};
use super::program::{Act, At, Cond, Kind, Mark, Op, Program, Reg, Step, Val, var_of};
use crate::error::Result;

/// A state: the memory that all share, and what each thread has of its own. [`Layout`] says where what lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct State {
    pub memory: u64,
    pub threads: [u64; MAX_THREADS],
}

/// What a state or step breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// Two threads own the lock.
    MutualExclusion {
        /// Who owned it already.
        owner: usize,
        /// Who came in.
        other: usize,
    },
    /// A thread entered before one that arrived earlier.
    Order {
        /// Who came in.
        thread: usize,
    },
    /// A thread touched the lock after it had given it up and another had, too: it may be freed.
    TouchAfterRelease {
        /// Who touched it.
        thread: usize,
    },
    /// More threads entered than may, since this one said that it starves.
    Starved {
        /// Who starves.
        thread: usize,
    },
    /// Nothing can happen any more, and someone waits.
    Stuck,
}

impl Violation {
    /// Its name in documents.
    pub fn name(&self) -> &'static str {
        match self {
            Violation::MutualExclusion { .. } => "mutual-exclusion",
            Violation::Order { .. } => "order",
            Violation::TouchAfterRelease { .. } => "touch-after-release",
            Violation::Starved { .. } => "starvation",
            Violation::Stuck => "lost-kick",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::MutualExclusion { owner, other } => {
                write!(f, "T{other} enters while T{owner} owns the lock")
            }
            Violation::Order { thread } => write!(f, "T{thread} enters before one that arrived earlier"),
            Violation::TouchAfterRelease { thread } => {
                write!(f, "T{thread} touches the lock after its release, when the next owner may have freed it")
            }
            Violation::Starved { thread } => write!(f, "T{thread} is overtaken more often than is promised"),
            Violation::Stuck => f.write_str("nobody can go on, and someone waits: the kick is lost"),
        }
    }
}

/// What a thread, or its store buffer, does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Action {
    /// Whose.
    pub thread: usize,
    /// Its oldest buffered store reaches memory; else its program takes a step.
    pub drain: bool,
    /// Which of the ways on that the program leaves open.
    pub choice: u8,
}

/// What came of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It cannot be taken here.
    Disabled,
    To(State),
    Broken(Violation),
}

/// A program on a number of threads.
#[derive(Debug, Clone)]
pub struct Machine {
    pub(super) program: Program,
    pub(super) layout: Layout,
    pub(super) threads: usize,
    /// How often each thread acquires; None: as often as it likes.
    pub(super) acquisitions: Option<u8>,
}

/// An action under way.
struct Run<'m> {
    machine: &'m Machine,
    state: State,
    thread: usize,
    choice: u8,
    /// How many ways on there were.
    ways: u8,
    /// Whether the one taken is an interrupt.
    optional: bool,
}

/// What came of a step.
pub(super) struct Stepped {
    pub outcome: Outcome,
    /// How many ways on there were.
    pub ways: u8,
    /// Whether the one taken need never be.
    pub optional: bool,
}

impl Machine {
    /// Puts a program on this many threads; each acquires `acquisitions` times, or as often as it likes.
    pub fn new(program: Program, threads: usize, acquisitions: Option<u8>) -> Result<Machine> {
        super::limits(threads, acquisitions)?;
        let layout = Layout::new(&program, threads, acquisitions.is_some())?;
        Ok(Machine { program, layout, threads, acquisitions })
    }

    /// All threads at their beginnings, memory zero, buffers empty.
    pub(super) fn initial(&self) -> State {
        let mut state = State::default();
        for thread in 0..self.threads {
            let start = self.program.starts[thread.min(self.program.starts.len() - 1)];
            let mut run = Run { machine: self, state, thread, choice: 0, ways: 1, optional: false };
            // Programs begin with a step or with a mark that cannot break anything in the first state.
            let _ = run.settle(start);
            state = run.state;
        }
        state
    }

    #[inline]
    pub(super) fn point(&self, word: u64) -> usize {
        self.layout.point.get(word) as usize
    }

    #[inline]
    pub(super) fn step_at(&self, word: u64) -> &Step {
        match &self.program.ops[self.layout.points[self.point(word)]] {
            Op::Step(step) => step,
            // Points are ops that are steps.
            _ => unreachable!("a point is a step"),
        }
    }

    /// Whether the thread neither has the lock nor wants it. It may stay there for ever.
    #[inline]
    pub(super) fn idle(&self, word: u64) -> bool {
        self.layout.idle[self.point(word)] || self.step_at(word).kind == Kind::Stop
    }

    #[inline]
    pub(super) fn buffered(&self, word: u64) -> u64 {
        self.layout.stores.get(word)
    }

    /// The oldest buffered store of a thread reaches memory.
    pub(super) fn drain(&self, state: &State, thread: usize) -> Outcome {
        let word = state.threads[thread];
        let stores = self.buffered(word);
        if stores == 0 {
            return Outcome::Disabled;
        }
        let mut to = *state;
        let entry = self.layout.entry;
        let (place, value) = (entry.place.get(word) as usize, entry.value.get(word));
        let buffer = entry.place.shift;
        let low = word & ((1 << buffer) - 1);
        to.threads[thread] = low | ((word >> buffer >> entry.bits) << buffer);
        self.layout.stores.set(&mut to.threads[thread], stores - 1);
        match self.program.stored[place] {
            At::Own(var) => self.layout.vars[var.0].set(&mut to.threads[thread], value),
            At::Var(var) | At::Slot(var, _) | At::Picked(var) => self.layout.vars[var.0].set(&mut to.memory, value),
        }
        if stores == 1 && self.program.uses_membarrier {
            return self.fenced(to, thread);
        }
        Outcome::To(to)
    }

    /// A thread's buffer is empty: those whose membarrier() waits for it need not wait any more.
    fn fenced(&self, mut state: State, thread: usize) -> Outcome {
        for waiter in 0..self.threads {
            let word = state.threads[waiter];
            let left = self.layout.left.get(word);
            if left & (1 << thread) == 0 || self.step_at(word).kind != Kind::Membarrier {
                continue;
            }
            self.layout.left.set(&mut state.threads[waiter], left & !(1 << thread));
            if left == 1 << thread {
                let mut run = Run { machine: self, state, thread: waiter, choice: 0, ways: 1, optional: false };
                if let Err(violation) = run.settle(self.layout.points[self.point(word)] + 1) {
                    return Outcome::Broken(violation);
                }
                state = run.state;
            }
        }
        Outcome::To(state)
    }

    /// A thread takes its next step; also how many ways on there are from it.
    pub(super) fn step(&self, state: &State, thread: usize, choice: u8) -> Stepped {
        let mut run = Run { machine: self, state: *state, thread, choice, ways: 1, optional: false };
        let outcome = match run.step() {
            Ok(true) => Outcome::To(run.state),
            Ok(false) => Outcome::Disabled,
            Err(violation) => Outcome::Broken(violation),
        };
        Stepped { outcome, ways: run.ways, optional: run.optional }
    }

    /// Whether nothing more has to happen, and someone waits. Nobody has to acquire again, nor to be interrupted: that
    /// is no way out for those who wait.
    pub(super) fn stuck(&self, state: &State) -> bool {
        let moves = |thread: usize| {
            let word = state.threads[thread];
            self.buffered(word) != 0 || !self.idle(word) && self.moves(state, thread)
        };
        (0..self.threads).any(|thread| !self.idle(state.threads[thread])) && !(0..self.threads).any(moves)
    }

    fn moves(&self, state: &State, thread: usize) -> bool {
        let ways = self.step(state, thread, 0).ways;
        (0..ways).map(|choice| self.step(state, thread, choice)).any(|stepped| match stepped.outcome {
            Outcome::To(to) => to != *state && !stepped.optional,
            Outcome::Broken(_) => true,
            Outcome::Disabled => false,
        })
    }

    /// Any action.
    pub(super) fn act(&self, state: &State, action: Action) -> Outcome {
        if action.drain {
            return self.drain(state, action.thread);
        }
        let stepped = self.step(state, action.thread, action.choice);
        if action.choice < stepped.ways { stepped.outcome } else { Outcome::Disabled }
    }
}

impl Machine {
    /// What the next step of a thread reads, place by place.
    pub(super) fn reads(&self, state: &State, thread: usize) -> Vec<(String, u8)> {
        let run = Run { machine: self, state: *state, thread, choice: 0, ways: 1, optional: false };
        let step = self.step_at(state.threads[thread]);
        let forwards = step.kind == Kind::Read;
        let place = |act: &Act| match act {
            Act::Get(_, at) => {
                let forwarded = if forwards { run.forwarded(at) } else { None };
                Some((run.name(at), forwarded.unwrap_or_else(|| run.memory(at))))
            }
            Act::Put(..) => None,
        };
        step.acts.iter().filter_map(place).collect()
    }

    /// The name of where a buffered store goes.
    pub(super) fn stored_name(&self, place: usize, thread: usize) -> String {
        let run = Run { machine: self, state: State::default(), thread, choice: 0, ways: 1, optional: false };
        run.name(&self.program.stored[place])
    }
}

impl Run<'_> {
    fn name(&self, at: &At) -> String {
        let name = self.machine.program.vars[var_of(*at).0].name;
        let declared = &self.machine.program.vars[var_of(*at).0];
        match *at {
            At::Var(_) => name.to_owned(),
            At::Slot(_, index) => format!("{name}[{}]", usize::from(self.value(index)) & (declared.len - 1)),
            At::Own(_) => format!("T{}.{name}", self.thread),
            At::Picked(_) => format!("T{}.{name}", self.place(at).0.unwrap_or(self.thread)),
        }
    }

    fn word(&self) -> u64 {
        self.state.threads[self.thread]
    }

    fn reg(&self, reg: Reg) -> u8 {
        self.machine.layout.regs[reg.0].get(self.word()) as u8
    }

    fn set_reg(&mut self, reg: Reg, value: u8) {
        self.machine.layout.regs[reg.0].set(&mut self.state.threads[self.thread], u64::from(value));
    }

    fn value(&self, value: Val) -> u8 {
        match value {
            Val::Const(value) => value,
            Val::Plus(reg, more) => self.reg(reg).wrapping_add(more),
            Val::Or(reg, bits) => self.reg(reg) | bits,
        }
    }

    fn equal(&self, reg: Reg, value: Val) -> bool {
        let mask = self.machine.layout.regs[reg.0].mask;
        u64::from(self.reg(reg)) == u64::from(self.value(value)) & mask
    }

    fn holds(&self, condition: &Cond) -> bool {
        match *condition {
            Cond::Always => true,
            Cond::Eq(reg, value) => self.equal(reg, value),
            Cond::Ne(reg, value) => !self.equal(reg, value),
            Cond::Any(reg, bits) => self.reg(reg) & bits != 0,
            Cond::None(reg, bits) => self.reg(reg) & bits == 0,
            Cond::Both(a, x, b, y) => self.equal(a, x) && self.equal(b, y),
        }
    }

    /// Whose word a place is in (None: the shared memory), and the field.
    fn place(&self, at: &At) -> (Option<usize>, Field) {
        let layout = &self.machine.layout;
        match *at {
            At::Var(var) => (None, layout.vars[var.0]),
            At::Slot(var, index) => {
                let declared = &self.machine.program.vars[var.0];
                let index = u32::from(self.value(index)) & (declared.len as u32 - 1);
                (None, layout.vars[var.0].up(index * declared.bits))
            }
            At::Own(var) => (Some(self.thread), layout.vars[var.0]),
            At::Picked(var) => {
                let picked = layout.picked.get(self.word()) as usize;
                (Some(picked.saturating_sub(1)), layout.vars[var.0])
            }
        }
    }

    fn memory(&self, at: &At) -> u8 {
        let (owner, field) = self.place(at);
        field.get(owner.map_or(self.state.memory, |thread| self.state.threads[thread])) as u8
    }

    fn write(&mut self, at: &At, value: Val) {
        let value = u64::from(self.value(value));
        let (owner, field) = self.place(at);
        let word = match owner {
            None => &mut self.state.memory,
            Some(thread) => &mut self.state.threads[thread],
        };
        field.set(word, value);
    }

    /// The newest buffered store to a place, if there is one.
    fn forwarded(&self, at: &At) -> Option<u8> {
        let layout = &self.machine.layout;
        let mut word = self.word();
        let stores = layout.stores.get(word);
        if stores == 0 {
            return None;
        }
        let wanted = self.machine.program.stored.iter().position(|stored| stored == at)?;
        let mut newest = None;
        for _ in 0..stores {
            if layout.entry.place.get(word) as usize == wanted {
                newest = Some(layout.entry.value.get(word) as u8);
            }
            word >>= layout.entry.bits;
        }
        newest
    }

    /// The next step of the thread, and what it decides from it. False: it cannot be taken now.
    fn step(&mut self) -> std::result::Result<bool, Violation> {
        let machine = self.machine;
        let layout = &machine.layout;
        let word = self.word();
        let at = layout.points[machine.point(word)];
        let step = machine.step_at(word);
        let empty = layout.stores.get(word) == 0;
        self.touches(step)?;
        match &step.kind {
            Kind::Stop => return Ok(false),
            Kind::Read => {
                for act in &step.acts {
                    if let Act::Get(reg, place) = act {
                        let value = self.forwarded(place).unwrap_or_else(|| self.memory(place));
                        self.set_reg(*reg, value);
                    }
                }
            }
            Kind::Write => {
                for act in &step.acts {
                    if let Act::Put(place, value, _) = act {
                        self.buffer(place, *value);
                    }
                }
            }
            Kind::Locked | Kind::Fence if !empty => return Ok(false),
            Kind::Locked | Kind::Direct => self.at_once(&step.acts),
            Kind::Fence => {}
            Kind::Membarrier => {
                if !empty || layout.left.get(word) != 0 {
                    return Ok(false);
                }
                let others = (0..machine.threads).filter(|&t| machine.buffered(self.state.threads[t]) != 0);
                let left = others.fold(0, |left, thread| left | (1 << thread));
                if left != 0 {
                    layout.left.set(&mut self.state.threads[self.thread], left);
                    return Ok(true);
                }
            }
            Kind::FutexWait(place, expected) => {
                if !empty || layout.blocked.get(word) != 0 {
                    return Ok(false);
                }
                let (_, field) = self.place(place);
                if u64::from(self.memory(place)) == u64::from(self.value(*expected)) & field.mask {
                    layout.blocked.set(&mut self.state.threads[self.thread], 1);
                    return Ok(true);
                }
            }
            Kind::FutexWake(place) => self.wake(place, None)?,
            Kind::FutexWakeOne(place) => self.wake(place, Some(self.choice))?,
            Kind::Await(condition) => {
                let gets = step.acts.iter().take_while(|act| matches!(act, Act::Get(..))).count();
                self.at_once(&step.acts[..gets]);
                if !self.holds(condition) {
                    return Ok(false);
                }
                self.at_once(&step.acts[gets..]);
            }
        }
        if self.state.memory & layout.epochs != 0 {
            self.begin_epoch();
        }
        self.settle(at + 1)?;
        Ok(true)
    }

    /// What was seen of a slot whose bit 1 is set is out of date from now on.
    fn begin_epoch(&mut self) {
        let machine = self.machine;
        for (reg, of) in &machine.program.epochs {
            for thread in 0..machine.threads {
                let observer = Run { machine, state: self.state, thread, choice: 0, ways: 1, optional: false };
                let word = self.state.threads[thread];
                let live = machine.layout.live[machine.point(word)];
                let field = machine.layout.regs[reg.0];
                // The thread that kicked has looked by now: what it saw is out of date, too.
                if (live >> field.shift & 1 != 0 || thread == self.thread) && observer.memory(of) & 2 != 0 {
                    field.set(&mut self.state.threads[thread], field.get(word) | 2);
                }
            }
        }
        self.state.memory &= !machine.layout.epochs;
    }

    fn at_once(&mut self, acts: &[Act]) {
        for act in acts {
            match act {
                Act::Get(reg, place) => {
                    let value = self.memory(place);
                    self.set_reg(*reg, value);
                }
                Act::Put(place, value, condition) => {
                    if self.holds(condition) {
                        self.write(place, *value);
                    }
                }
            }
        }
    }

    fn buffer(&mut self, at: &At, value: Val) {
        let layout = &self.machine.layout;
        let value = u64::from(self.value(value)) & self.place(at).1.mask;
        let place = self.machine.program.stored.iter().position(|stored| stored == at).unwrap_or(0);
        let stores = layout.stores.get(self.word());
        // The analysis of the program has shown that there is room.
        debug_assert!((stores as usize) < self.machine.program.buffer);
        let up = stores as u32 * layout.entry.bits;
        let word = &mut self.state.threads[self.thread];
        layout.entry.place.up(up).set(word, place as u64);
        layout.entry.value.up(up).set(word, value);
        layout.stores.set(word, stores + 1);
    }

    /// Unblocks those who block on a place: all, or only the one of this number.
    fn wake(&mut self, place: &At, only: Option<u8>) -> std::result::Result<(), Violation> {
        let machine = self.machine;
        let woken = self.place(place);
        let mut sleepers = 0;
        for thread in 0..machine.threads {
            let word = self.state.threads[thread];
            if machine.layout.blocked.get(word) == 0 {
                continue;
            }
            let mut sleeper = Run { machine, state: self.state, thread, choice: 0, ways: 1, optional: false };
            if let Kind::FutexWait(at, _) = &machine.step_at(word).kind
                && sleeper.place(at) == woken
            {
                sleepers += 1;
                if only.is_some_and(|only| only != sleepers - 1) {
                    continue;
                }
                machine.layout.blocked.set(&mut sleeper.state.threads[thread], 0);
                sleeper.settle(machine.layout.points[machine.point(word)] + 1)?;
                self.state = sleeper.state;
            }
        }
        if only.is_some() {
            self.ways = sleepers.max(1);
        }
        Ok(())
    }

    /// Whether the step touches the lock's memory when it may not.
    fn touches(&self, step: &Step) -> std::result::Result<(), Violation> {
        let standing = self.machine.layout.standing.get(self.word());
        if standing == 0 {
            return Ok(());
        }
        let in_lock = step.acts.iter().any(|act| {
            let (Act::Get(_, at) | Act::Put(at, ..)) = act;
            self.machine.program.vars[var_of(*at).0].lock
        });
        // A store may drain at any time later, so it is wrong as soon as it is made.
        if in_lock && (standing == 2 || step.kind == Kind::Write) {
            return Err(Violation::TouchAfterRelease { thread: self.thread });
        }
        Ok(())
    }

    /// From an op on, all that is local, up to the next step.
    fn settle(&mut self, mut at: usize) -> std::result::Result<(), Violation> {
        let machine = self.machine;
        let layout = &machine.layout;
        loop {
            match &machine.program.ops[at] {
                Op::Step(_) => break,
                Op::Goto(to) => at = *to,
                Op::If(condition, to) => at = if self.holds(condition) { *to } else { at + 1 },
                Op::Either(to) => {
                    self.ways = 2;
                    at = if self.choice == 1 { *to } else { at + 1 };
                }
                Op::Maybe(to) => {
                    self.ways = 2;
                    self.optional = self.choice == 1;
                    at = if self.optional { *to } else { at + 1 };
                }
                Op::Set(reg, value) => {
                    let value = self.value(*value);
                    self.set_reg(*reg, value);
                    at += 1;
                }
                Op::Others => {
                    let all = (1 << machine.threads) - 1;
                    layout.left.set(&mut self.state.threads[self.thread], all & !(1 << self.thread));
                    at += 1;
                }
                Op::Pick(none_left) => {
                    let left = layout.left.get(self.word());
                    if left == 0 {
                        at = *none_left;
                        continue;
                    }
                    self.ways = left.count_ones() as u8;
                    let nth = |n: u8| (0..n).fold(left, |left, _| left & (left - 1)).trailing_zeros();
                    let picked = nth(self.choice.min(self.ways - 1));
                    let word = &mut self.state.threads[self.thread];
                    layout.picked.set(word, u64::from(picked) + 1);
                    layout.left.set(word, left & !(1 << picked));
                    at += 1;
                }
                Op::Mark(mark) => {
                    at += 1;
                    if self.mark(*mark)? {
                        at = machine.program.ops.len() - 1;
                    }
                }
            }
        }
        let point = layout.point_of[at];
        let word = &mut self.state.threads[self.thread];
        layout.point.set(word, point as u64);
        *word &= layout.live[point];
        Ok(())
    }

    /// What a mark means. True: the thread acquires no more.
    fn mark(&mut self, mark: Mark) -> std::result::Result<bool, Violation> {
        let machine = self.machine;
        let layout = &machine.layout;
        let me = self.thread;
        let others = (0..machine.threads).filter(|&other| other != me);
        match mark {
            Mark::Arrive => {
                let before = others.filter(|&t| layout.rank.get(self.state.threads[t]) != 0).count() as u64;
                layout.rank.set(&mut self.state.threads[me], before + 1);
            }
            Mark::Enter => self.enter()?,
            Mark::Leave => {
                for other in others {
                    let word = &mut self.state.threads[other];
                    if layout.standing.get(*word) == 1 {
                        layout.standing.set(word, 2);
                    }
                }
                layout.owns.set(&mut self.state.threads[me], 0);
                layout.standing.set(&mut self.state.threads[me], 1);
            }
            Mark::Starve => {
                if layout.overtaken.get(self.word()) == 0 {
                    layout.overtaken.set(&mut self.state.threads[me], 1);
                }
            }
            Mark::Done => {
                let word = &mut self.state.threads[me];
                layout.standing.set(word, 0);
                if let Some(acquisitions) = machine.acquisitions {
                    let count = layout.count.get(*word) + 1;
                    let ends = count >= u64::from(acquisitions);
                    layout.count.set(word, if ends { 0 } else { count });
                    return Ok(ends);
                }
            }
        }
        Ok(false)
    }

    fn enter(&mut self) -> std::result::Result<(), Violation> {
        let machine = self.machine;
        let layout = &machine.layout;
        let me = self.thread;
        let promises = machine.program.promises;
        let rank = layout.rank.get(self.word());
        for other in (0..machine.threads).filter(|&other| other != me) {
            let word = &mut self.state.threads[other];
            if layout.owns.get(*word) != 0 {
                return Err(Violation::MutualExclusion { owner: other, other: me });
            }
            let theirs = layout.rank.get(*word);
            layout.rank.set(word, theirs.saturating_sub(1));
            let overtaken = layout.overtaken.get(*word);
            if overtaken != 0 {
                layout.overtaken.set(word, overtaken + 1);
                if promises.overtakers.is_some_and(|bound| overtaken > u64::from(bound)) {
                    return Err(Violation::Starved { thread: other });
                }
            }
        }
        if promises.fifo && rank != 1 {
            return Err(Violation::Order { thread: me });
        }
        let word = &mut self.state.threads[me];
        layout.owns.set(word, 1);
        layout.rank.set(word, 0);
        layout.overtaken.set(word, 0);
        Ok(())
    }
}
