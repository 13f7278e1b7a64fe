//! How long a waiter spins before it calls the hypervisor: time, not iterations.
//!
//! Linux counted: 2¹⁵ turns of a loop with a `pause` in it. That is 0.1 ms on one CPU and 0.8 ms on another, for `pause`
//! takes 4 to 140 cycles. Here the threshold is a time of the order of what blocking and being kicked costs, measured
//! with the time stamp counter.

use core::time::Duration;

use super::ops::{Place, PvLockOps};
use super::slots::{self, Want};

/// Ticks of a clock that is read in some ten nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock;

impl Clock {
    /// Ticks since some moment.
    #[inline]
    pub fn now() -> u64 {
        #[cfg(any(loom, shuttle))]
        {
            0
        }
        #[cfg(all(target_arch = "x86_64", not(any(loom, shuttle, miri))))]
        {
            // SAFETY: every x86-64 CPU has the instruction, and it touches nothing but two registers.
            #[allow(unused_unsafe)]
            unsafe {
                core::arch::x86_64::_rdtsc()
            }
        }
        #[cfg(all(feature = "std", not(any(loom, shuttle)), any(not(target_arch = "x86_64"), miri)))]
        {
            system::nanoseconds()
        }
        #[cfg(not(any(feature = "std", target_arch = "x86_64", loom, shuttle)))]
        {
            // No clock at all: turns of the loop.
            use core::sync::atomic::{AtomicU64, Ordering};
            static TURNS: AtomicU64 = AtomicU64::new(0);
            TURNS.fetch_add(1, Ordering::Relaxed)
        }
    }

    /// Ticks in a time, at least one unless the time is zero; more than the counter holds is as long as it can.
    pub fn ticks(time: Duration) -> u64 {
        let ticks = time.as_nanos().saturating_mul(u128::from(Self::per_1024_ns())) >> 10;
        u64::try_from(ticks).unwrap_or(u64::MAX).max(u64::from(!time.is_zero()))
    }

    /// The time that so many ticks take.
    pub fn time(ticks: u64) -> Duration {
        let ns = (u128::from(ticks) << 10) / u128::from(Self::per_1024_ns());
        Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
    }

    /// Ticks in 1024 ns: calibrated once, against the system's clock.
    #[cfg(feature = "std")]
    fn per_1024_ns() -> u64 {
        system::per_1024_ns()
    }

    /// Without a system's clock to compare with, as if the counter ran at 2 GHz: a threshold need not be exact.
    #[cfg(not(feature = "std"))]
    fn per_1024_ns() -> u64 {
        2048
    }
}

#[cfg(feature = "std")]
mod system {
    use std::sync::OnceLock;
    use std::time::{Duration, Instant};

    #[cfg(all(not(any(loom, shuttle)), any(not(target_arch = "x86_64"), miri)))]
    pub fn nanoseconds() -> u64 {
        static START: OnceLock<Instant> = OnceLock::new();
        u64::try_from(START.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    pub fn per_1024_ns() -> u64 {
        static RATE: OnceLock<u64> = OnceLock::new();
        *RATE.get_or_init(|| {
            let (first, start) = both_clocks();
            while start.elapsed() < Duration::from_micros(if cfg!(any(loom, shuttle)) { 0 } else { 200 }) {}
            let (last, end) = both_clocks();
            let elapsed = u64::try_from((end - start).as_nanos()).unwrap_or(u64::MAX).max(1);
            (last.saturating_sub(first).saturating_mul(1024) / elapsed).max(1)
        })
    }

    /// Both clocks at one moment: of some readings the one that took the shortest time, for a thread may lose its CPU
    /// between the two.
    fn both_clocks() -> (u64, Instant) {
        let reading = || {
            let before = Instant::now();
            let ticks = super::Clock::now();
            (before.elapsed(), ticks, before)
        };
        let (mut shortest, mut ticks, mut at) = reading();
        for _ in 0..if cfg!(any(loom, shuttle)) { 0 } else { 15 } {
            let (took, now, before) = reading();
            if took < shortest {
                (shortest, ticks, at) = (took, now, before);
            }
        }
        (ticks, at)
    }
}

/// How a waiter spends the time before it blocks.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Ticks to spin before letting another thread run at all.
    pub spin: u64,
    /// Ticks that the first waiter of a CPU spins, before each time that it lets another thread run.
    pub first: u64,
    /// How often to let another thread run.
    pub yields: u32,
    /// Ticks after which it is over in any case: those others may run for long.
    pub longest: u64,
}

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
            Place::OutOfTurn => slots::ask(ops, want),
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
        let more = self.yields < self.patience.yields && !self.is_long();
        self.yields += u32::from(more);
        more
    }
}

/// Takes a lock when it is free, until a time has passed: what a waiter does that may leave, and so must not queue.
pub fn poll<O: PvLockOps>(ops: &O, time: Duration, mut try_lock: impl FnMut() -> bool) -> bool {
    let (start, limit) = (Clock::now(), Clock::ticks(time));
    // The counter's rate is known to a fraction only: that the time has passed is for the system's clock to say.
    #[cfg(feature = "std")]
    let began = std::time::Instant::now();
    let mut waiting = Waiting::begin(ops.patience());
    let mut nap = Duration::from_micros(20);
    loop {
        if try_lock() {
            return true;
        }
        let passed = Clock::now().wrapping_sub(start);
        if passed >= limit {
            #[cfg(feature = "std")]
            if began.elapsed() < time {
                super::sync::relax();
                continue;
            }
            return false;
        }
        if !waiting.turn(ops) {
            ops.nap(nap.min(Clock::time(limit - passed)));
            nap = (nap * 2).min(Duration::from_millis(1));
        }
    }
}
