//! The ops of a lock, as a trait.

use core::time::Duration;

use super::super::counters::Counters;
#[cfg(feature = "std")]
use super::super::left::Left;
use super::super::slots::Want;
#[cfg(not(any(loom, shuttle)))]
use super::super::slots::{SYMMETRIC, WAITED};
use super::super::sync::{self, AtomicU32};

/// How a waiter spends the time before it blocks.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Ticks to spin before letting another thread run at all.
    pub spin: u64,
    /// Ticks that the first waiter of a CPU spins, before each time that it lets another thread run.
    pub first: u64,
    /// How often to let another thread run, at least.
    pub yields: u32,
    /// Ticks for which to do so, at least.
    pub yielding: u64,
    /// Ticks after which it is over in any case: those others may run for long.
    pub longest: u64,
}

/// Where a waiter of a queue stands among those who wait on its CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// No waiter before it is on this CPU: it may spin.
    First,
    /// Somebody who is before it needs this CPU.
    Behind,
    /// As `Behind`, and the waiter before it in the queue runs on this CPU right after it: unless that one yields at its
    /// release, every other thread of the CPU runs before this one, which owns the lock by then.
    OutOfTurn,
}

/// What [`PvLockOps::waited`] says where it is not known.
#[cfg(not(any(loom, shuttle)))]
pub(super) static ALWAYS: AtomicU32 = AtomicU32::new(WAITED | SYMMETRIC);

/// The ops of a lock. `Copy`, and asked for before the release: afterwards the lock may be gone.
pub trait PvLockOps: Copy + Send + Sync {
    /// How often a waiter whose turn is next looks before anything else: where each thread has a CPU, the holder is done
    /// before a longer wait has been set up.
    const FIRST_LOOKS: u32 = 0;

    /// `lock_spinning(lock, want)`: blocks until `word` is no longer `seen`. May return earlier, for no reason; must not
    /// sleep on when `word` changed before it was called.
    fn lock_spinning(&self, word: &AtomicU32, seen: u32, want: Want);

    /// As [`lock_spinning`](Self::lock_spinning), for at most this time.
    fn lock_spinning_for(&self, _word: &AtomicU32, _seen: u32, _want: Want, time: Duration) {
        self.nap(time.min(Duration::from_millis(1)));
    }

    /// Where tickets are noted whose waiters have left; one place for all locks that share slots.
    #[cfg(all(feature = "std", not(any(loom, shuttle))))]
    fn left(&self) -> &Left {
        Left::of_process()
    }

    /// Where tickets are noted whose waiters have left; one place for all locks that share slots.
    #[cfg(any(loom, shuttle))]
    fn left(&self) -> &Left;

    /// `unlock_kick(lock, next)`: wakes all whom [`lock_spinning`](Self::lock_spinning) blocks on `word`, which has just
    /// changed.
    fn unlock_kick(&self, word: &AtomicU32, next: Want);

    /// Where waiters of this ticket park: in a table of this backend's own. Whose kick cleared a slot also wakes those
    /// who sleep there, so they must all be of one backend.
    fn slot(&self, want: Want) -> &AtomicU32;

    /// Whether anybody has waited in the table of [`slot`](Self::slot): [`Slots::waited`](super::super::Slots::waited).
    /// Unless a backend has such a word every release looks at its slot.
    #[cfg(not(any(loom, shuttle)))]
    #[inline]
    fn waited(&self) -> &AtomicU32 {
        &ALWAYS
    }

    /// Whether anybody has waited in the table of [`slot`](Self::slot).
    #[cfg(any(loom, shuttle))]
    fn waited(&self) -> &AtomicU32;

    /// Whether [`lock_spinning`](Self::lock_spinning) blocks at all.
    fn blocks(&self) -> bool {
        true
    }

    /// Lets another thread run.
    fn yield_now(&self) {
        sync::relax();
    }

    /// Does nothing for about this time.
    fn nap(&self, _time: Duration) {
        sync::relax();
    }

    /// Lets others run if this thread has had the CPU for a turn: what one does who has to wait for a lock anyway, lest
    /// the CPU is taken from it when it holds the lock.
    fn take_turns(&self) {}

    /// Finds out what there is to find out once, if anything. Called by who has neither the lock nor a ticket any more:
    /// nobody waits for it.
    fn settle(&self) {}

    /// How long a waiter waits before it blocks.
    fn patience(&self) -> Patience {
        Patience { spin: 0, first: 0, yields: 0, yielding: 0, longest: 0 }
    }

    /// Where a waiter of a queue, whom so many tickets part from the lock, stands among those who wait on its CPU.
    /// `looked` is when it last let others run.
    fn place(&self, _want: Want, _distance: u32, _looked: Option<u64>) -> Place {
        Place::Behind
    }

    /// Notes that a waiter of a queue lets others run now: for [`place`](Self::place) of those behind it.
    fn note(&self, _want: Want) {}

    /// Where to count, if counting is on.
    #[inline]
    fn counters(&self) -> Option<&Counters> {
        None
    }
}
