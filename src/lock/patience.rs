//! How long a waiter spins before it calls the hypervisor: time, not iterations.
//!
//! Linux counted: 2¹⁵ turns of a loop with a `pause` in it. That is 0.1 ms on one CPU and 0.8 ms on another, for `pause`
//! takes 4 to 140 cycles. Here the threshold is a time of the order of what blocking and being kicked costs, measured
//! with the time stamp counter.

use core::time::Duration;

use super::clock::Clock;
use super::limit::Limit;
use super::ops::{Patience, Place, PvLockOps};
use super::parking;
use super::slots::Want;

/// Looks at the lock for each at the clock.
const LOOKS: u64 = 16;

/// A waiter's patience running out.
#[derive(Debug)]
pub struct Waiting {
    patience: Patience,
    start: u64,
    /// Whether it has spun all it spins before it lets another thread run.
    spun: bool,
    yields: u32,
    /// When it last let another thread run.
    looked: Option<u64>,
    /// Looks so far.
    pub spins: u64,
}

impl Waiting {
    /// A waiter that has just begun.
    #[inline]
    pub fn begin(patience: Patience) -> Waiting {
        Waiting { patience, start: Clock::now(), spun: patience.spin == 0, yields: 0, looked: None, spins: 0 }
    }

    /// Woken, and not the owner yet: it waits on with patience anew.
    #[inline]
    pub fn again(&mut self) {
        *self = Waiting { spins: self.spins, ..Waiting::begin(self.patience) };
    }

    /// Whether all patience is over, counted from the beginning.
    #[inline]
    pub fn is_long(&self) -> bool {
        Clock::now().wrapping_sub(self.start) > self.patience.longest
    }

    /// Some looks without asking the clock. Reading that takes as long as a look at the lock: only now and then, not to
    /// see the release later.
    #[inline]
    fn looks(&mut self, is_next: impl Fn() -> bool) -> bool {
        for _ in 0..LOOKS {
            self.spins += 1;
            if is_next() {
                return true;
            }
            super::sync::relax();
        }
        false
    }

    /// One more turn of a waiter whose turn comes at any time: spins or yields, and is true as long as there is patience.
    #[inline]
    pub fn turn<O: PvLockOps>(&mut self, ops: &O) -> bool {
        if !self.spun {
            self.spins += 1;
            if !self.spins.is_multiple_of(LOOKS) || Clock::now().wrapping_sub(self.start) < self.patience.spin {
                super::sync::relax();
                return true;
            }
            self.spun = true;
        }
        let more = self.has_yields();
        if more {
            ops.yield_now();
        }
        more
    }

    /// One more turn of a waiter in a queue, whom so many tickets part from the lock: spins until it `is_next` if nobody
    /// before it waits for this CPU, or yields; true as long as there is patience.
    #[inline]
    pub fn turn_in_queue<O: PvLockOps>(
        &mut self,
        ops: &O,
        want: Want,
        distance: u32,
        is_next: impl Fn() -> bool,
    ) -> bool {
        match ops.place(want, distance, self.looked) {
            Place::First if self.patience.first > 0 => {
                let start = Clock::now();
                while Clock::now().wrapping_sub(start) < self.patience.first {
                    if self.looks(&is_next) {
                        return true;
                    }
                }
            }
            Place::First | Place::Behind => {}
            Place::OutOfTurn => parking::ask(ops, want),
        }
        let more = self.has_yields();
        if more {
            self.spins += 1;
            self.looked = Some(Clock::now());
            ops.note(want);
            ops.yield_now();
        }
        more
    }

    #[inline]
    fn has_yields(&mut self) -> bool {
        let waited = Clock::now().wrapping_sub(self.start);
        let more =
            (self.yields < self.patience.yields || waited < self.patience.yielding) && waited <= self.patience.longest;
        self.yields = self.yields.saturating_add(u32::from(more));
        more
    }
}

/// Takes a lock when it is free, until a limit is over: what a waiter does that may leave, and so must not queue.
pub fn poll<O: PvLockOps>(ops: &O, limit: &mut impl Limit, mut try_lock: impl FnMut() -> bool) -> bool {
    let mut waiting = Waiting::begin(ops.patience());
    let (mut nap, mut slept) = (Duration::from_micros(20), false);
    loop {
        if try_lock() {
            return true;
        }
        if limit.is_over(core::mem::take(&mut slept)) {
            return false;
        }
        if !waiting.turn(ops) {
            ops.nap(limit.longest_sleep().map_or(nap, |longest| longest.min(nap)));
            nap = (nap * 2).min(Duration::from_millis(1));
            slept = true;
        }
    }
}
