//! When a waiter stops waiting.

use core::time::Duration;

#[cfg(not(feature = "std"))]
use super::clock::Clock;
use super::raw::Leave;

/// When a waiter leaves the queue.
pub trait Limit {
    /// How long it may sleep before it is asked again; None: until it is kicked.
    fn longest_sleep(&self) -> Option<Duration>;

    /// Whether it leaves now; `slept`: it has slept, or spun for long, since it was last asked.
    fn is_over(&mut self, slept: bool) -> bool;
}

/// It stays until it has the lock.
pub struct Never;

impl Limit for Never {
    #[inline]
    fn longest_sleep(&self) -> Option<Duration> {
        None
    }

    #[inline]
    fn is_over(&mut self, _: bool) -> bool {
        false
    }
}

/// When a waiter began to wait.
struct Began(
    #[cfg(feature = "std")] std::time::Instant,
    // Without a system's clock the rate of the counter is a guess, and so is the time.
    #[cfg(not(feature = "std"))] u64,
);

impl Began {
    fn now() -> Began {
        #[cfg(feature = "std")]
        {
            Began(std::time::Instant::now())
        }
        #[cfg(not(feature = "std"))]
        {
            Began(Clock::now())
        }
    }

    fn elapsed(&self) -> Duration {
        #[cfg(feature = "std")]
        {
            self.0.elapsed()
        }
        #[cfg(not(feature = "std"))]
        {
            Clock::time(Clock::now().wrapping_sub(self.0))
        }
    }
}

/// It leaves when a time has passed, or when it is told to.
pub struct Until<'a, 't> {
    /// When it began, and how long it stays, if not for ever.
    time: Option<(Began, Duration)>,
    leave: Option<&'a mut Leave<'t>>,
}

impl<'a, 't> Until<'a, 't> {
    /// Stays for this time at most, if there is one, and until it is told to leave.
    pub fn new(time: Option<Duration>, leave: Option<&'a mut Leave<'t>>) -> Until<'a, 't> {
        Until { time: time.map(|time| (Began::now(), time)), leave }
    }
}

impl Limit for Until<'_, '_> {
    fn longest_sleep(&self) -> Option<Duration> {
        let left = self.time.as_ref().map(|(began, time)| time.saturating_sub(began.elapsed()));
        let asked = self.leave.as_ref().and_then(|leave| leave.longest_sleep);
        left.into_iter().chain(asked).min()
    }

    fn is_over(&mut self, slept: bool) -> bool {
        self.time.as_ref().is_some_and(|(began, time)| began.elapsed() >= *time)
            || slept && self.leave.as_mut().is_some_and(|leave| (leave.leaves)())
    }
}
