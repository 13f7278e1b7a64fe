//! Protocols as step programs: one access to memory a step, and what a thread decides from it.
//!
//! ```text
//! lock:  my = xadd(tail, 1)          locked
//! spin:  h = head                    read
//!        if h == my goto enter       local: no step of its own
//!        either goto spin, or go on
//! ```
//!
//! A program is data, so that what the reductions need is computed and not claimed: which registers are dead (they are
//! zeroed, and so two states that differ in one of them are one), which fields hold tickets (they are rotated), and
//! how many stores a store buffer can hold at once.

use std::collections::HashMap;
use std::ops::Add;

use crate::error::{Error, Result};

/// A variable in memory: one for all threads, or one of each thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Var(pub(super) usize);

/// A register of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reg(pub(super) usize);

/// A value that a step computes; it wraps at the width of where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Val {
    /// A number.
    Const(u8),
    /// A register plus a number.
    Plus(Reg, u8),
    /// A register with these bits set.
    Or(Reg, u8),
}

impl From<u8> for Val {
    fn from(value: u8) -> Val {
        Val::Const(value)
    }
}

impl From<Reg> for Val {
    fn from(reg: Reg) -> Val {
        Val::Plus(reg, 0)
    }
}

impl Add<u8> for Reg {
    type Output = Val;
    fn add(self, value: u8) -> Val {
        Val::Plus(self, value)
    }
}

impl Val {
    pub(super) fn reg(self) -> Option<Reg> {
        match self {
            Val::Const(_) => None,
            Val::Plus(reg, _) | Val::Or(reg, _) => Some(reg),
        }
    }
}

/// Where in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// A variable.
    Var(Var),
    /// An element of an array, modulo its length, which is a power of two.
    Slot(Var, Val),
    /// The thread's own instance of a variable that each thread has.
    Own(Var),
    /// The instance of the thread that [`Builder::pick`] picked.
    Picked(Var),
}

impl From<Var> for At {
    fn from(var: Var) -> At {
        At::Var(var)
    }
}

/// A condition on registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cond {
    /// Always.
    Always,
    /// The register has this value.
    Eq(Reg, Val),
    /// The register has another value.
    Ne(Reg, Val),
    /// The register has one of these bits set.
    Any(Reg, u8),
    /// The register has none of these bits set.
    None(Reg, u8),
    /// Both.
    Both(Reg, Val, Reg, Val),
}

/// A part of a step; the parts of one step happen at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Reads memory into a register.
    Get(Reg, At),
    /// Writes memory, if the condition on registers holds, those just read included.
    Put(At, Val, Cond),
}

/// Reads memory into a register.
pub fn get(reg: Reg, at: impl Into<At>) -> Act {
    Act::Get(reg, at.into())
}

/// Writes memory.
pub fn put(at: impl Into<At>, value: impl Into<Val>) -> Act {
    Act::Put(at.into(), value.into(), Cond::Always)
}

/// Writes memory if a condition holds.
pub fn put_if(condition: Cond, at: impl Into<At>, value: impl Into<Val>) -> Act {
    Act::Put(at.into(), value.into(), condition)
}

/// How a step meets the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A load: the newest of the thread's own buffered stores to the place, else memory.
    Read,
    /// A store: into the thread's store buffer, whence it drains in order, at any time later.
    Write,
    /// A locked instruction: waits until the thread's buffer is empty, then reads and writes memory at once.
    Locked,
    /// `mfence`: waits until the thread's buffer is empty.
    Fence,
    /// `membarrier(PRIVATE_EXPEDITED)`: the own buffer, and that of each other thread at some moment within the call,
    /// is empty.
    Membarrier,
    /// `futex(FUTEX_WAIT)`: after the kernel's own barrier, blocks if the place still holds the value.
    FutexWait(At, Val),
    /// `futex(FUTEX_WAKE)`: unblocks all who block on the place. Taken to be no barrier, which allows more.
    FutexWake(At),
    /// The same, but unblocks one of them, any.
    FutexWakeOne(At),
    /// Cannot be taken until the condition holds of what was read from memory: a halt, a poll.
    Await(Cond),
    /// An effect that is not the thread's own store: a kick through the hypervisor. Taken to be no barrier.
    Direct,
    /// The thread ends here; registers named are kept for who looks at the end.
    Stop,
}

/// What a step means for the properties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// The thread stands in the queue now: whoever arrives later enters later.
    Arrive,
    /// The thread owns the lock: checked against mutual exclusion, order, and the bound on overtaking.
    Enter,
    /// The thread gives the lock up. From here to [`Mark::Done`] it may not touch the lock's memory, where that is
    /// promised: the next owner may have freed it.
    Leave,
    /// The thread is done with the lock for now.
    Done,
    /// The thread has said that it starves: no more others than the bound may enter before it.
    Starve,
}

#[derive(Debug, Clone)]
pub(super) enum Op {
    Step(Step),
    If(Cond, usize),
    Goto(usize),
    /// Goes on, or to the label.
    Either(usize),
    /// The same, but nobody may rely on it that the jump is ever taken: an interrupt.
    Maybe(usize),
    Set(Reg, Val),
    Mark(Mark),
    /// Every thread but this one is to be looked at.
    Others,
    /// One of those to be looked at, any; to the label where none is left.
    Pick(usize),
}

#[derive(Debug, Clone)]
pub(super) struct Step {
    pub kind: Kind,
    pub acts: Vec<Act>,
    pub text: &'static str,
}

#[derive(Debug, Clone)]
pub(super) struct Declared {
    pub name: &'static str,
    /// Bits of a value.
    pub bits: u32,
    /// Whether values are tickets, all rotated alike.
    pub ticket: bool,
    /// Whether it lies in the lock.
    pub lock: bool,
    /// Elements; 1 unless an array.
    pub len: usize,
    /// Whether each thread has one.
    pub own: bool,
}

/// What a protocol promises, and is held to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Promises {
    /// Who arrives first enters first.
    pub fifo: bool,
    /// A thread that gave the lock up does not touch the lock's memory any more.
    pub no_touch: bool,
    /// How many others may enter before a thread that has said that it starves.
    pub overtakers: Option<u8>,
}

/// Pseudo-registers of the analysis: the threads still to be looked at, and the one picked.
pub(super) const LEFT: u32 = 1 << 31;
pub(super) const PICKED: u32 = 1 << 30;

/// A finished step program.
#[derive(Debug, Clone)]
pub struct Program {
    pub(super) ops: Vec<Op>,
    pub(super) vars: Vec<Declared>,
    pub(super) regs: Vec<Declared>,
    /// Where each thread begins; one entry for all threads alike, and then threads are interchangeable.
    pub(super) starts: Vec<usize>,
    pub(super) pivot: Option<Var>,
    pub(super) epochs: Vec<(Reg, At)>,
    pub(super) guarded: Vec<(Var, Var)>,
    pub(super) promises: Promises,
    /// For each op, the registers whose values may still be read when the thread stands before it.
    pub(super) live: Vec<u32>,
    /// The places that buffered stores go to.
    pub(super) stored: Vec<At>,
    /// How many stores a buffer may hold at once.
    pub(super) buffer: usize,
    /// Whether any step between leaving and being done touches the lock at all.
    pub(super) touches: bool,
    /// For each op, whether it is the first step of an acquisition: nobody has to take it.
    pub(super) idle: Vec<bool>,
    pub(super) uses_picks: bool,
    pub(super) uses_membarrier: bool,
    pub(super) uses_futex: bool,
}

/// Writes a program down, line by line.
#[derive(Debug, Default)]
pub struct Builder {
    ops: Vec<Op>,
    vars: Vec<Declared>,
    regs: Vec<Declared>,
    labels: HashMap<&'static str, usize>,
    jumps: Vec<(usize, &'static str)>,
    starts: Vec<&'static str>,
    pivot: Option<Var>,
    epochs: Vec<(Reg, At)>,
    guarded: Vec<(Var, Var)>,
    promises: Promises,
}

impl Builder {
    /// An empty program that promises this, besides mutual exclusion.
    pub fn new(promises: Promises) -> Builder {
        Builder { promises, ..Builder::default() }
    }

    fn declare(&mut self, declared: Declared) -> Var {
        self.vars.push(declared);
        Var(self.vars.len() - 1)
    }

    /// A variable of the lock.
    pub fn lock_var(&mut self, name: &'static str, bits: u32) -> Var {
        self.declare(Declared { name, bits, ticket: false, lock: true, len: 1, own: false })
    }

    /// A ticket of the lock.
    pub fn lock_ticket(&mut self, name: &'static str, bits: u32) -> Var {
        self.declare(Declared { name, bits, ticket: true, lock: true, len: 1, own: false })
    }

    /// A variable outside the lock.
    pub fn global(&mut self, name: &'static str, bits: u32) -> Var {
        self.declare(Declared { name, bits, ticket: false, lock: false, len: 1, own: false })
    }

    /// An array outside the lock, indexed by tickets.
    pub fn array(&mut self, name: &'static str, len: usize, bits: u32) -> Var {
        self.declare(Declared { name, bits, ticket: false, lock: false, len, own: false })
    }

    /// A variable that each thread has.
    pub fn own(&mut self, name: &'static str, bits: u32) -> Var {
        self.declare(Declared { name, bits, ticket: false, lock: false, len: 1, own: true })
    }

    /// A ticket that each thread has.
    pub fn own_ticket(&mut self, name: &'static str, bits: u32) -> Var {
        self.declare(Declared { name, bits, ticket: true, lock: false, len: 1, own: true })
    }

    /// A register.
    pub fn reg(&mut self, name: &'static str, bits: u32) -> Reg {
        self.regs.push(Declared { name, bits, ticket: false, lock: false, len: 1, own: true });
        Reg(self.regs.len() - 1)
    }

    /// A register that holds tickets.
    pub fn ticket(&mut self, name: &'static str, bits: u32) -> Reg {
        self.regs.push(Declared { name, bits, ticket: true, lock: false, len: 1, own: true });
        Reg(self.regs.len() - 1)
    }

    /// States that differ by a rotation of all tickets are one; this ticket is 0 in the one that is kept. Only for
    /// programs that name no ticket by number.
    pub fn rotate_by(&mut self, pivot: Var) {
        self.pivot = Some(pivot);
    }

    /// The register holds what was seen in a slot: bit 0 as it is, and in bit 1 whether the slot has begun another epoch
    /// since, which a step does by setting bit 1 of the slot. So epochs never wrap; the real ones have 29 bits.
    pub fn epoch(&mut self, reg: Reg, of: At) {
        self.epochs.push((reg, of));
    }

    /// A variable that each thread has, which others look at only after they saw this other one not zero, and which its
    /// thread writes before it makes that one not zero. While that is zero, it means nothing.
    pub fn guarded(&mut self, var: Var, guard: Var) {
        self.guarded.push((var, guard));
    }

    /// A place to jump to.
    pub fn label(&mut self, name: &'static str) {
        self.labels.insert(name, self.ops.len());
    }

    /// Where the next thread begins. Without any, all begin at the first line.
    pub fn start(&mut self, label: &'static str) {
        self.starts.push(label);
    }

    fn step(&mut self, kind: Kind, text: &'static str, acts: &[Act]) {
        self.ops.push(Op::Step(Step { kind, acts: acts.to_vec(), text }));
    }

    /// A load; several places are one wide load.
    pub fn read(&mut self, text: &'static str, acts: &[Act]) {
        self.step(Kind::Read, text, acts);
    }

    /// A store.
    pub fn write(&mut self, text: &'static str, at: impl Into<At>, value: impl Into<Val>) {
        self.step(Kind::Write, text, &[put(at, value)]);
    }

    /// A locked instruction.
    pub fn locked(&mut self, text: &'static str, acts: &[Act]) {
        self.step(Kind::Locked, text, acts);
    }

    /// A locked compare-and-exchange; `found` is what was there.
    pub fn cas(&mut self, text: &'static str, at: impl Into<At>, found: Reg, old: impl Into<Val>, new: impl Into<Val>) {
        let at = at.into();
        self.locked(text, &[get(found, at), put_if(Cond::Eq(found, old.into()), at, new)]);
    }

    /// A full fence of this thread.
    pub fn fence(&mut self) {
        self.step(Kind::Fence, "mfence", &[]);
    }

    /// A full fence of every thread.
    pub fn membarrier(&mut self) {
        self.step(Kind::Membarrier, "membarrier()", &[]);
    }

    /// Blocks in the kernel if the place holds the value.
    pub fn futex_wait(&mut self, text: &'static str, at: impl Into<At>, value: impl Into<Val>) {
        self.step(Kind::FutexWait(at.into(), value.into()), text, &[]);
    }

    /// Unblocks all who block on the place.
    pub fn futex_wake(&mut self, text: &'static str, at: impl Into<At>) {
        self.step(Kind::FutexWake(at.into()), text, &[]);
    }

    /// Unblocks one of those who block on the place.
    pub fn futex_wake_one(&mut self, text: &'static str, at: impl Into<At>) {
        self.step(Kind::FutexWakeOne(at.into()), text, &[]);
    }

    /// Waits until the condition holds of what is read.
    pub fn wait_until(&mut self, text: &'static str, condition: Cond, acts: &[Act]) {
        self.step(Kind::Await(condition), text, acts);
    }

    /// An effect through the hypervisor.
    pub fn direct(&mut self, text: &'static str, acts: &[Act]) {
        self.step(Kind::Direct, text, acts);
    }

    /// Ends the thread; these registers can be looked at afterwards.
    pub fn stop(&mut self, keep: &[Reg]) {
        let kept: Vec<Act> = keep.iter().map(|&reg| put_if(Cond::Eq(reg, Val::Const(0)), Var(0), 0)).collect();
        self.step(Kind::Stop, "stops", &kept);
    }

    /// Jumps if the condition holds.
    pub fn go_if(&mut self, condition: Cond, to: &'static str) {
        self.jumps.push((self.ops.len(), to));
        self.ops.push(Op::If(condition, 0));
    }

    /// Jumps.
    pub fn goto(&mut self, to: &'static str) {
        self.jumps.push((self.ops.len(), to));
        self.ops.push(Op::Goto(0));
    }

    /// Goes on or jumps: both are tried.
    pub fn either(&mut self, to: &'static str) {
        self.jumps.push((self.ops.len(), to));
        self.ops.push(Op::Either(0));
    }

    /// Goes on or jumps, as [`Builder::either`]; but the jump is an interrupt, which need never come.
    pub fn maybe(&mut self, to: &'static str) {
        self.jumps.push((self.ops.len(), to));
        self.ops.push(Op::Maybe(0));
    }

    /// Sets a register.
    pub fn set(&mut self, reg: Reg, value: impl Into<Val>) {
        self.ops.push(Op::Set(reg, value.into()));
    }

    /// Says what the step before means.
    pub fn mark(&mut self, mark: Mark) {
        self.ops.push(Op::Mark(mark));
    }

    /// Begins to look at every other thread, in any order.
    pub fn others(&mut self) {
        self.ops.push(Op::Others);
    }

    /// Picks a thread not yet looked at, any of them; jumps where none is left.
    pub fn pick(&mut self, none_left: &'static str) {
        self.jumps.push((self.ops.len(), none_left));
        self.ops.push(Op::Pick(0));
    }

    /// The finished program. An error says what is wrong with the program itself: a jump into nothing, a loop that
    /// stores for ever without a fence.
    pub fn build(mut self) -> Result<Program> {
        for (op, label) in std::mem::take(&mut self.jumps) {
            let target = *self.labels.get(label).ok_or_else(|| Error::lock(format!("no line is called {label}")))?;
            match &mut self.ops[op] {
                Op::If(_, to) | Op::Goto(to) | Op::Either(to) | Op::Maybe(to) | Op::Pick(to) => *to = target,
                Op::Step(_) | Op::Set(..) | Op::Mark(_) | Op::Others => {}
            }
        }
        if !matches!(self.ops.last(), Some(Op::Goto(_) | Op::Step(Step { kind: Kind::Stop, .. }))) {
            return Err(Error::lock("a program must end with a jump or a stop"));
        }
        // Where threads go that have acquired often enough.
        self.stop(&[]);
        let starts = self.starts.iter().map(|label| {
            self.labels.get(label).copied().ok_or_else(|| Error::lock(format!("no line is called {label}")))
        });
        let mut starts: Vec<usize> = starts.collect::<Result<_>>()?;
        if starts.is_empty() {
            starts.push(0);
        }
        let mut stored: Vec<At> = Vec::new();
        for step in self.ops.iter().filter_map(step_of).filter(|step| step.kind == Kind::Write) {
            for act in &step.acts {
                match act {
                    Act::Put(at @ (At::Var(_) | At::Own(_)), ..) if stored.contains(at) => {}
                    Act::Put(at @ (At::Var(_) | At::Own(_)), ..) => stored.push(*at),
                    _ => return Err(Error::lock("only stores to variables and to the thread's own can be buffered")),
                }
            }
        }
        if let Some(array) = self.vars.iter().find(|var| !var.len.is_power_of_two()) {
            return Err(Error::lock(format!("an array of {} elements: it must be a power of two", array.len)));
        }
        for at in (0..self.ops.len()).filter(|&at| waits(&self.ops[at])) {
            if !walk(&self.ops, at + 1).all(|op| matches!(op, Op::If(..) | Op::Goto(_) | Op::Set(..) | Op::Step(_))) {
                return Err(Error::lock("who is woken takes a step before it chooses, or before it means something"));
            }
        }
        let any = |what: fn(&Kind) -> bool| self.ops.iter().filter_map(step_of).any(|step| what(&step.kind));
        Ok(Program {
            live: liveness(&self.ops),
            buffer: buffered(&self.ops)?,
            uses_picks: self.ops.iter().any(|op| matches!(op, Op::Pick(_))),
            uses_membarrier: any(|kind| matches!(kind, Kind::Membarrier)),
            uses_futex: any(|kind| matches!(kind, Kind::FutexWait(..))),
            stored,
            touches: touches_after_release(&self.ops, &self.vars),
            idle: idle(&self.ops, &starts),
            starts,
            pivot: self.pivot,
            epochs: self.epochs,
            guarded: self.guarded,
            promises: self.promises,
            vars: self.vars,
            regs: self.regs,
            ops: self.ops,
        })
    }
}

pub(super) fn step_of(op: &Op) -> Option<&Step> {
    match op {
        Op::Step(step) => Some(step),
        _ => None,
    }
}

/// Whether a thread stays before the op until another one lets it go on.
fn waits(op: &Op) -> bool {
    step_of(op).is_some_and(|step| matches!(step.kind, Kind::FutexWait(..) | Kind::Membarrier))
}

/// Every op that a thread may come by from here, up to the next steps and with them.
pub(super) fn walk(ops: &[Op], from: usize) -> impl Iterator<Item = &Op> {
    let (mut seen, mut open) = (vec![false; ops.len()], vec![from]);
    std::iter::from_fn(move || {
        while let Some(at) = open.pop() {
            if std::mem::replace(&mut seen[at], true) {
                continue;
            }
            if step_of(&ops[at]).is_none() {
                open.extend(successors(ops, at));
            }
            return Some(&ops[at]);
        }
        None
    })
}

/// Whether a step between [`Mark::Leave`] and [`Mark::Done`] reads or writes what lies in the lock.
fn touches_after_release(ops: &[Op], vars: &[Declared]) -> bool {
    let mut open: Vec<usize> = (0..ops.len()).filter(|&at| matches!(ops[at], Op::Mark(Mark::Leave))).collect();
    let mut seen = vec![false; ops.len()];
    while let Some(at) = open.pop() {
        if std::mem::replace(&mut seen[at], true) || matches!(ops[at], Op::Mark(Mark::Done)) {
            continue;
        }
        let mut places = step_of(&ops[at]).into_iter().flat_map(|step| &step.acts);
        if places.any(|(Act::Get(_, at) | Act::Put(at, ..))| vars[var_of(*at).0].lock) {
            return true;
        }
        open.extend(successors(ops, at));
    }
    false
}

/// The variable of a place.
pub(super) fn var_of(at: At) -> Var {
    match at {
        At::Var(var) | At::Own(var) | At::Slot(var, _) | At::Picked(var) => var,
    }
}

/// The first steps of acquisitions: those that threads begin with, and come to when they are done.
fn idle(ops: &[Op], starts: &[usize]) -> Vec<bool> {
    let mut idle = vec![false; ops.len()];
    let done = (0..ops.len()).filter(|&at| matches!(ops[at], Op::Mark(Mark::Done)));
    let mut open: Vec<usize> = done.map(|at| at + 1).collect();
    // A program without acquisitions (a litmus test) has to run to its end.
    if !open.is_empty() {
        open.extend(starts);
    }
    while let Some(at) = open.pop() {
        if step_of(&ops[at]).is_some() {
            idle[at] = true;
        } else {
            open.extend(successors(ops, at));
        }
    }
    idle
}

/// The ops that may follow.
pub(super) fn successors(ops: &[Op], at: usize) -> Vec<usize> {
    match &ops[at] {
        Op::Goto(to) => vec![*to],
        Op::If(_, to) | Op::Either(to) | Op::Maybe(to) | Op::Pick(to) => vec![at + 1, *to],
        Op::Step(Step { kind: Kind::Stop, .. }) => vec![],
        Op::Step(_) | Op::Set(..) | Op::Mark(_) | Op::Others => vec![at + 1],
    }
}

fn bit(reg: Option<Reg>) -> u32 {
    reg.map_or(0, |reg| 1 << reg.0)
}

fn read_by(condition: &Cond) -> u32 {
    match *condition {
        Cond::Always => 0,
        Cond::Eq(reg, value) | Cond::Ne(reg, value) => bit(Some(reg)) | bit(value.reg()),
        Cond::Any(reg, _) | Cond::None(reg, _) => bit(Some(reg)),
        Cond::Both(a, x, b, y) => bit(Some(a)) | bit(x.reg()) | bit(Some(b)) | bit(y.reg()),
    }
}

fn indexed_by(at: &At) -> u32 {
    match at {
        At::Slot(_, index) => bit(index.reg()),
        At::Picked(_) => PICKED,
        At::Var(_) | At::Own(_) => 0,
    }
}

/// Registers live before an op, from those live after it.
fn live_before(op: &Op, after: u32) -> u32 {
    match op {
        Op::If(condition, _) => after | read_by(condition),
        Op::Set(reg, value) => (after & !bit(Some(*reg))) | bit(value.reg()),
        Op::Goto(_) | Op::Either(_) | Op::Maybe(_) | Op::Mark(_) => after,
        Op::Others => after & !LEFT,
        Op::Pick(_) => (after & !PICKED) | LEFT,
        Op::Step(step) if step.kind == Kind::Stop => step
            .acts
            .iter()
            .fold(0, |kept, act| if let Act::Put(.., kept_reg) = act { kept | read_by(kept_reg) } else { kept }),
        Op::Step(step) => {
            let mut live = after;
            if let Kind::Await(condition) = &step.kind {
                live |= read_by(condition);
            }
            for act in step.acts.iter().rev() {
                match act {
                    Act::Put(at, value, condition) => {
                        live |= read_by(condition) | bit(value.reg()) | indexed_by(at);
                    }
                    Act::Get(reg, at) => live = (live & !bit(Some(*reg))) | indexed_by(at),
                }
            }
            match &step.kind {
                Kind::FutexWait(at, value) => live | indexed_by(at) | bit(value.reg()),
                Kind::FutexWake(at) | Kind::FutexWakeOne(at) => live | indexed_by(at),
                _ => live,
            }
        }
    }
}

/// Which registers may still be read, before each op: the usual fixed point.
fn liveness(ops: &[Op]) -> Vec<u32> {
    let mut live = vec![0; ops.len()];
    loop {
        let mut changed = false;
        for at in (0..ops.len()).rev() {
            let after = successors(ops, at).into_iter().fold(0, |after, next| after | live[next]);
            let before = live_before(&ops[at], after);
            changed |= before != live[at];
            live[at] = before;
        }
        if !changed {
            return live;
        }
    }
}

/// The longest row of stores without a step that waits for an empty buffer.
fn buffered(ops: &[Op]) -> Result<usize> {
    const LIMIT: usize = 6;
    let mut held = vec![0; ops.len()];
    loop {
        let mut changed = false;
        for at in 0..ops.len() {
            let after = match &ops[at] {
                Op::Step(Step { kind: Kind::Write, .. }) => held[at] + 1,
                Op::Step(Step {
                    kind: Kind::Locked | Kind::Fence | Kind::Membarrier | Kind::FutexWait(..), ..
                }) => 0,
                _ => held[at],
            };
            if after > LIMIT {
                return Err(Error::lock("a loop stores without ever waiting for an empty store buffer"));
            }
            for next in successors(ops, at) {
                changed |= held[next] < after;
                held[next] = held[next].max(after);
            }
        }
        if !changed {
            let stores = |at: &usize| matches!(&ops[*at], Op::Step(Step { kind: Kind::Write, .. }));
            return Ok((0..ops.len()).filter(stores).map(|at| held[at] + 1).max().unwrap_or(0));
        }
    }
}
