//! A program put on threads, and a state of it.

use super::bounds::{self, MAX_THREADS};
use super::layout::Layout;
use super::program::{Kind, Op, Program, Step};
use super::violation::Violation;
use crate::error::Result;

/// A state: the memory that all share, and what each thread has of its own. [`Layout`] says where what lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct State {
    pub memory: u64,
    pub threads: [u64; MAX_THREADS],
}

/// What a thread, or its store buffer, does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Action {
    /// Whose.
    pub thread: usize,
    /// Its oldest buffered store reaches memory; else its program takes a step.
    pub drain: bool,
    /// Which of the ways on that the program leaves open: three bits for each place that has several, the first lowest.
    pub choice: u32,
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

impl Machine {
    /// Puts a program on this many threads; each acquires `acquisitions` times, or as often as it likes.
    pub fn new(program: Program, threads: usize, acquisitions: Option<u8>) -> Result<Machine> {
        bounds::limits(threads, acquisitions)?;
        let layout = Layout::new(&program, threads, acquisitions)?;
        Ok(Machine { program, layout, threads, acquisitions })
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
}
