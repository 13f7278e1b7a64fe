//! Writes programs down.

use std::collections::HashMap;

use super::analysis::{buffered, idle, liveness, touches_after_release, waits, walk};
use super::statements::{Act, At, Cond, Declared, Kind, Mark, Op, Program, Promises, Reg, Step, Val, Var};
use super::statements::{get, put, put_if, step_of};
use crate::error::{Error, Result};

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

    /// Keeps aside who is still to be looked at and who was picked, for code that may look at others in between.
    pub fn keep_picks(&mut self) {
        self.ops.push(Op::Keep);
    }

    /// Goes on where [`Builder::keep_picks`] was.
    pub fn resume_picks(&mut self) {
        self.ops.push(Op::Resume);
    }

    /// The finished program. An error says what is wrong with the program itself: a jump into nothing, a loop that
    /// stores for ever without a fence.
    pub fn build(mut self) -> Result<Program> {
        for (op, label) in std::mem::take(&mut self.jumps) {
            let target = *self.labels.get(label).ok_or_else(|| Error::lock(format!("no line is called {label}")))?;
            match &mut self.ops[op] {
                Op::If(_, to) | Op::Goto(to) | Op::Either(to) | Op::Maybe(to) | Op::Pick(to) => *to = target,
                Op::Step(_) | Op::Set(..) | Op::Mark(_) | Op::Others | Op::Keep | Op::Resume => {}
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
            keeps_picks: self.ops.iter().any(|op| matches!(op, Op::Keep)),
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
