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

    /// Whether the rate is known: some time after it was first asked for. Until then it is a guess, since who asks may
    /// hold a ticket, and others wait behind it.
    #[cfg(feature = "std")]
    pub fn is_calibrated() -> bool {
        system::per_1024_ns().is_some()
    }

    /// Waits until the rate is known.
    #[cfg(feature = "std")]
    pub fn calibrate() {
        while !Clock::is_calibrated() {
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
    use std::sync::OnceLock;
    use std::time::{Duration, Instant};

    #[cfg(all(not(any(loom, shuttle)), any(not(target_arch = "x86_64"), miri)))]
    pub fn nanoseconds() -> u64 {
        static START: OnceLock<Instant> = OnceLock::new();
        u64::try_from(START.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Long beside the time that reading both clocks takes.
    const LONG_ENOUGH: Duration = Duration::from_micros(if cfg!(any(loom, shuttle)) { 0 } else { 200 });

    /// The rate, once the first call is long enough ago.
    pub fn per_1024_ns() -> Option<u64> {
        static FIRST: OnceLock<(u64, Instant)> = OnceLock::new();
        static RATE: OnceLock<u64> = OnceLock::new();
        if let Some(&rate) = RATE.get() {
            return Some(rate);
        }
        let &(first, start) = FIRST.get_or_init(both_clocks);
        if start.elapsed() < LONG_ENOUGH {
            return None;
        }
        let (last, end) = both_clocks();
        let elapsed = u64::try_from((end - start).as_nanos()).unwrap_or(u64::MAX).max(1);
        let rate = (u128::from(last.saturating_sub(first)) * 1024 / u128::from(elapsed)).max(1);
        Some(*RATE.get_or_init(|| u64::try_from(rate).unwrap_or(u64::MAX)))
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
