//! What a lock did on its slow path. The fast path knows nothing of it.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts of slow-path events, since birth.
#[derive(Debug, Default)]
pub struct Counters {
    slow_paths: AtomicU64,
    spins: AtomicU64,
    kicks: AtomicU64,
    waits: AtomicU64,
}

/// The counts at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Acquisitions that did not get the lock at once.
    pub slow_paths: u64,
    /// Looks at a lock that was not free yet.
    pub spins: u64,
    /// `unlock_kick`s.
    pub kicks: u64,
    /// `lock_spinning`s: times a waiter blocked (or would have, had it not been kicked that moment).
    pub waits: u64,
}

impl Counters {
    /// All zero.
    pub const fn new() -> Counters {
        Counters {
            slow_paths: AtomicU64::new(0),
            spins: AtomicU64::new(0),
            kicks: AtomicU64::new(0),
            waits: AtomicU64::new(0),
        }
    }

    /// The counts now.
    pub fn counts(&self) -> Counts {
        Counts {
            slow_paths: self.slow_paths.load(Relaxed),
            spins: self.spins.load(Relaxed),
            kicks: self.kicks.load(Relaxed),
            waits: self.waits.load(Relaxed),
        }
    }

    pub(super) fn slow_path(&self, spins: u64) {
        self.slow_paths.fetch_add(1, Relaxed);
        self.spins.fetch_add(spins, Relaxed);
    }

    pub(super) fn kick(&self) {
        self.kicks.fetch_add(1, Relaxed);
    }

    pub(super) fn wait(&self) {
        self.waits.fetch_add(1, Relaxed);
    }
}
