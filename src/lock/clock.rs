//! A clock that is read in some ten nanoseconds, and its rate.

use core::time::Duration;

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

    /// Ticks in 1024 ns, by the system's clock.
    #[cfg(feature = "std")]
    fn per_1024_ns() -> u64 {
        system::per_1024_ns().unwrap_or(GUESS)
    }

    /// Whether the rate is known: two calls of [`compare`](Self::compare) lie some time apart. Until then it is a guess.
    #[cfg(feature = "std")]
    pub fn is_calibrated() -> bool {
        system::per_1024_ns().is_some()
    }

    /// Compares the counter with the system's clock. That takes about a microsecond, in two calls, and waits neither for
    /// the time between them nor for another thread that is at it. Even so it is not for who holds a lock or a ticket:
    /// others wait behind it.
    #[cfg(feature = "std")]
    pub fn compare() {
        system::compare();
    }

    /// Waits until the rate is known.
    #[cfg(feature = "std")]
    pub fn calibrate() {
        while !Clock::is_calibrated() {
            Clock::compare();
            core::hint::spin_loop();
        }
    }

    /// Without a system's clock to compare with, as if the counter ran at 2 GHz: a threshold need not be exact.
    #[cfg(not(feature = "std"))]
    fn per_1024_ns() -> u64 {
        GUESS
    }
}

/// 2 GHz.
const GUESS: u64 = 2048;

#[cfg(feature = "std")]
mod system {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{Duration, Instant};

    #[cfg(all(not(any(loom, shuttle)), any(not(target_arch = "x86_64"), miri)))]
    pub fn nanoseconds() -> u64 {
        use std::sync::OnceLock;
        static START: OnceLock<Instant> = OnceLock::new();
        u64::try_from(START.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Long beside the time that reading both clocks takes.
    const LONG_ENOUGH: Duration = Duration::from_micros(if cfg!(any(loom, shuttle)) { 0 } else { 200 });

    /// 0: not known yet.
    static RATE: AtomicU64 = AtomicU64::new(0);

    /// The rate, once it is known.
    pub fn per_1024_ns() -> Option<u64> {
        Some(RATE.load(Ordering::Relaxed)).filter(|&rate| rate != 0)
    }

    /// Takes the first reading, or the last, if it is time for it and no other thread is at it.
    pub fn compare() {
        static FIRST: Mutex<Option<(u64, Instant)>> = Mutex::new(None);
        if per_1024_ns().is_some() {
            return;
        }
        let Ok(mut first) = FIRST.try_lock() else {
            return;
        };
        let Some((first, start)) = *first else {
            *first = Some(both_clocks());
            return;
        };
        if start.elapsed() < LONG_ENOUGH {
            return;
        }
        let (last, end) = both_clocks();
        let elapsed = u64::try_from((end - start).as_nanos()).unwrap_or(u64::MAX).max(1);
        let rate = (u128::from(last.saturating_sub(first)) * 1024 / u128::from(elapsed)).max(1);
        RATE.store(u64::try_from(rate).unwrap_or(u64::MAX), Ordering::Relaxed);
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
