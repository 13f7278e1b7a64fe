//! What a virtual CPU, a physical CPU and a lock are at one instant.

use std::collections::VecDeque;

use super::calendar::NEVER;
use super::random::Stream;

/// No CPU.
pub(super) const NONE: u32 = u32::MAX;

/// What the time of a virtual CPU goes to. At each instant it is in exactly one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Runs, with no lock.
    Think,
    /// Runs, with a lock.
    Hold,
    /// Runs, waiting for a lock.
    Spin,
    /// Sleeps in the hypervisor until it is kicked.
    Blocked,
    /// The hypervisor works for it on its physical CPU: a switch, an exit, a kick.
    Overhead,
    /// Could run, and has no physical CPU.
    Idle,
}

impl State {
    /// How many there are.
    pub const COUNT: usize = 6;

    /// In the order of their numbers.
    pub const NAMES: [&str; State::COUNT] = ["think", "hold", "spin", "blocked", "overhead", "idle"];
}

/// What a piece of guest code does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    Think,
    Hold,
    Spin,
}

/// Where a virtual CPU is between the guest and the hypervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Runs guest code.
    Guest,
    /// Is being put on its physical CPU.
    Switch,
    /// Is leaving the guest to block.
    Exit,
    /// Is leaving the guest because it spun for too long at a stretch.
    Yield,
    /// Kicks another.
    Kick,
    /// Waits for a physical CPU.
    Ready,
    /// Waits for a kick.
    Blocked,
}

/// One of the two things that guest code may be in the middle of: its program, and an interrupt handler above it.
#[derive(Debug)]
pub(super) struct Frame {
    pub doing: Doing,
    /// The lock was handed to it while this frame did not run, so that it has not seen it yet.
    pub granted: bool,
    pub lock: u32,
    /// When it asked for the lock.
    pub asked: u64,
    /// How long it will hold the lock.
    pub hold: u64,
    /// What is left of thinking or holding, while it does not run.
    pub left: u64,
    /// How long it may still spin before it blocks.
    pub budget: u64,
}

impl Frame {
    fn new() -> Frame {
        Frame { doing: Doing::Think, granted: false, lock: 0, asked: 0, hold: 0, left: 0, budget: NEVER }
    }
}

#[derive(Debug)]
pub(super) struct Vcpu {
    pub phase: Phase,
    pub state: State,
    /// Since when it is in that state.
    pub since: u64,
    /// The frame that runs: 0 the program, 1 the handler.
    pub depth: usize,
    /// When what it is doing ends, if nothing intervenes.
    pub until: u64,
    /// When the next interrupt comes, while the program runs.
    pub interrupt_at: u64,
    /// Time left until the next interrupt, while the program does not run.
    pub interrupt_left: u64,
    /// Since when it has been spinning without a break.
    pub spins_since: u64,
    /// Its physical CPU.
    pub on: u32,
    /// The virtual CPU that it kicks.
    pub target: u32,
    /// It has written in memory that it is about to block, so that the holder will kick it.
    pub published: bool,
    /// A kick for it is under way.
    pub kicked: bool,
    /// A kick came before it blocked: blocking returns at once.
    pub latched: bool,
    /// It is scheduled before all that are not boosted.
    pub boosted: bool,
    /// Credit: its share of the physical CPUs in ps, less what it used.
    pub credit: i64,
    /// Up to when its use has been subtracted from its credit.
    pub charged: u64,
    pub acquisitions: u64,
    /// The first of its virtual machine's locks.
    pub locks: usize,
    /// How long it will think next, or hold its next lock: drawn one step before it is used.
    pub ahead: u64,
    /// Which of the locks that will be.
    pub ahead_lock: usize,
    pub frames: [Frame; 2],
    pub program: Stream,
    pub interrupts: Stream,
}

impl Vcpu {
    pub fn new(seed: u64, number: usize, locks: usize) -> Vcpu {
        Vcpu {
            phase: Phase::Ready,
            state: State::Idle,
            since: 0,
            depth: 0,
            until: NEVER,
            interrupt_at: NEVER,
            interrupt_left: NEVER,
            spins_since: 0,
            on: NONE,
            target: NONE,
            published: false,
            kicked: false,
            latched: false,
            boosted: false,
            credit: 0,
            charged: 0,
            acquisitions: 0,
            locks,
            ahead: 0,
            ahead_lock: locks,
            frames: [Frame::new(), Frame::new()],
            program: Stream::new(seed, 2 * number as u64),
            interrupts: Stream::new(seed, 2 * number as u64 + 1),
        }
    }

    #[inline]
    pub fn frame(&mut self) -> &mut Frame {
        &mut self.frames[self.depth]
    }

    /// Whether it would notice at once that the lock this frame waits for is free.
    pub fn watches(&self, depth: usize) -> bool {
        self.phase == Phase::Guest && self.depth == depth
    }

    /// Whether it has a lock, or was handed one.
    pub fn holds(&self) -> bool {
        self.frames[..=self.depth].iter().any(|frame| frame.doing == Doing::Hold || frame.granted)
    }
}

#[derive(Debug)]
pub(super) struct Pcpu {
    pub current: u32,
    pub slice_end: u64,
}

/// One who waits: a virtual CPU and which of its frames.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiter {
    pub vcpu: u32,
    pub depth: u8,
}

#[derive(Debug, Default)]
pub(super) struct Lock {
    pub held: bool,
    /// In the order of asking.
    pub waiters: VecDeque<Waiter>,
}
