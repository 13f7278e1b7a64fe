//! The one interface of all the locks.

use core::time::Duration;

/// What tells a waiter to leave.
pub struct Leave<'a> {
    /// Whether it leaves: asked after each sleep. A signal ends a sleep of most backends.
    pub leaves: &'a mut dyn FnMut() -> bool,
    /// The longest that one sleep may last, if it must end: a signal that comes right before a sleep does not end it.
    pub longest_sleep: Option<Duration>,
}

/// A lock without data, for [`Lock`](super::Lock).
///
/// # Safety
/// Between a `lock` (or a `try_lock` that returned true) and the next `unlock`, no other acquires.
pub unsafe trait RawLock: Send + Sync {
    /// The name of the protocol, in every table and document.
    const PROTOCOL: &'static str;

    /// What a holder keeps until it releases, lest the release has to load it from the lock: the ticket, or nothing.
    type Held: Copy;

    /// Acquires; waits as long as it takes.
    fn lock(&self);

    /// Acquires if that takes no waiting.
    fn try_lock(&self) -> bool;

    /// Acquires, or gives up after this time.
    ///
    /// With [`PvTicketLock`](super::PvTicketLock) and [`PvHybridLock`](super::PvHybridLock) a waiter stands in the queue
    /// like every other, and is passed over when it has left. The tickets of the others cannot be passed over: who may
    /// leave takes none, but takes the lock when it finds it free, and those in the queue go before.
    fn try_lock_for(&self, time: Duration) -> bool;

    /// Acquires, or gives up after this time, if there is one, or when the waiter is told to leave.
    fn lock_unless(&self, time: Option<Duration>, leave: &mut Leave<'_>) -> bool {
        const SLICE: Duration = Duration::from_millis(50);
        let mut left = time.unwrap_or(Duration::MAX);
        loop {
            if self.try_lock_for(left.min(SLICE)) {
                return true;
            }
            left = left.saturating_sub(SLICE);
            if left.is_zero() || (leave.leaves)() {
                return false;
            }
        }
    }

    /// Acquires, as [`lock`](Self::lock), and says what [`release`](Self::release) takes.
    #[inline]
    fn acquire(&self) -> Self::Held {
        self.lock();
        self.held()
    }

    /// What [`acquire`](Self::acquire) returns, asked by the holder; of no use to anyone else.
    fn held(&self) -> Self::Held;

    /// Releases.
    ///
    /// # Safety
    /// The caller holds the lock, and `held` is of this acquisition.
    #[inline]
    unsafe fn release(&self, _held: Self::Held) {
        // SAFETY: the caller holds the lock.
        unsafe { self.unlock() };
    }

    /// Releases, where nothing could be kept (`lock_api`).
    ///
    /// # Safety
    /// The caller holds the lock.
    unsafe fn unlock(&self);

    /// Whether someone holds it. The answer may be out of date when it is read.
    fn is_locked(&self) -> bool;

    /// Whether someone waits for it (`spin_is_contended()`: `(tail - head) & mask > 1`).
    fn is_contended(&self) -> bool;
}

/// A lock was to be shared by more threads than its word has tickets: the next one would own it beside its holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MoreWaitersThanTickets {
    /// Threads that would hold it or wait for it.
    pub threads: u64,
    /// How many may.
    pub tickets: u64,
}

impl core::fmt::Display for MoreWaitersThanTickets {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "more waiters than tickets: {} threads, but the word has {}", self.threads, self.tickets)
    }
}

impl core::error::Error for MoreWaitersThanTickets {}
