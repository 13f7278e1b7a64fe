//! What a program consists of: variables, registers, values, places, steps, and what steps mean.

use std::ops::Add;

/// A variable in memory: one for all threads, or one of each thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Var(pub(in crate::lock::check) usize);

/// A register of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reg(pub(in crate::lock::check) usize);

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
    pub(in crate::lock::check) fn reg(self) -> Option<Reg> {
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
    /// The instance of the thread that [`Builder::pick`](super::builder::Builder::pick) picked.
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
    /// Reads memory into a register, if the condition on registers holds, those just read included. Only in steps that
    /// read and write at once.
    GetIf(Reg, At, Cond),
    /// Writes memory, if the condition on registers holds, those just read included.
    Put(At, Val, Cond),
}

/// Reads memory into a register.
pub fn get(reg: Reg, at: impl Into<At>) -> Act {
    Act::Get(reg, at.into())
}

/// Reads memory into a register if a condition holds.
pub fn get_if(condition: Cond, reg: Reg, at: impl Into<At>) -> Act {
    Act::GetIf(reg, at.into(), condition)
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
    /// The thread waits no more, and nobody has to wait for it: it was the last in the queue, or there is no order.
    Withdraw,
    /// The thread, having given the lock up, owns it again, in the place of a waiter that left the queue: those behind
    /// that one move up.
    Inherit,
}

#[derive(Debug, Clone)]
pub(in crate::lock::check) enum Op {
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
    /// Who is to be looked at, and who was picked, is kept aside: the code that follows may look at others.
    Keep,
    /// It is again as it was kept.
    Resume,
}

#[derive(Debug, Clone)]
pub(in crate::lock::check) struct Step {
    pub kind: Kind,
    pub acts: Vec<Act>,
    pub text: &'static str,
}

#[derive(Debug, Clone)]
pub(in crate::lock::check) struct Declared {
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

/// Pseudo-registers of the analysis: the threads still to be looked at, the one picked, and both as kept.
pub(in crate::lock::check) const LEFT: u32 = 1 << 31;
pub(in crate::lock::check) const PICKED: u32 = 1 << 30;
pub(in crate::lock::check) const KEPT: u32 = 1 << 29;

/// A finished step program.
#[derive(Debug, Clone)]
pub struct Program {
    pub(in crate::lock::check) ops: Vec<Op>,
    pub(in crate::lock::check) vars: Vec<Declared>,
    pub(in crate::lock::check) regs: Vec<Declared>,
    /// Where each thread begins; one entry for all threads alike, and then threads are interchangeable.
    pub(in crate::lock::check) starts: Vec<usize>,
    pub(in crate::lock::check) pivot: Option<Var>,
    pub(in crate::lock::check) epochs: Vec<(Reg, At)>,
    pub(in crate::lock::check) guarded: Vec<(Var, Var)>,
    pub(in crate::lock::check) promises: Promises,
    /// For each op, the registers whose values may still be read when the thread stands before it.
    pub(in crate::lock::check) live: Vec<u32>,
    /// The places that buffered stores go to.
    pub(in crate::lock::check) stored: Vec<At>,
    /// How many stores a buffer may hold at once.
    pub(in crate::lock::check) buffer: usize,
    /// Whether any step between leaving and being done touches the lock at all.
    pub(in crate::lock::check) touches: bool,
    /// For each op, whether it is the first step of an acquisition: nobody has to take it.
    pub(in crate::lock::check) idle: Vec<bool>,
    pub(in crate::lock::check) uses_picks: bool,
    pub(in crate::lock::check) keeps_picks: bool,
    pub(in crate::lock::check) uses_membarrier: bool,
    pub(in crate::lock::check) uses_futex: bool,
}

/// The step that an op is, if it is one.
pub(in crate::lock::check) fn step_of(op: &Op) -> Option<&Step> {
    match op {
        Op::Step(step) => Some(step),
        _ => None,
    }
}

/// The variable of a place.
pub(in crate::lock::check) fn var_of(at: At) -> Var {
    match at {
        At::Var(var) | At::Own(var) | At::Slot(var, _) | At::Picked(var) => var,
    }
}
