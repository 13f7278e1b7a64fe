//! The table of parked waiters: the flag "someone waits for this ticket" is here and not in the lock.
//!
//! A slot belongs to all tickets of all locks that hash to it. The unlocker looks at the slot of the next ticket alone,
//! so it calls out only if the *next owner* (or one who shares its slot: a kick too many, never one too few) is parked;
//! there is no flag in the lock to clear, hence no race to clear it, and no memory of the lock to touch after releasing.

use super::sync::AtomicU32;

/// Who waits, or is kicked: `lock_spinning(lock, want)`, `unlock_kick(lock, next)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// The lock's address, as a name.
    pub lock: usize,
    /// The ticket.
    pub ticket: u32,
}

impl Want {
    /// Where it is in a table of [`PLACES`]. Fibonacci hashing says where the places of a lock begin; its tickets lie side
    /// by side there, so two of them share no place unless they are 1024 apart.
    ///
    /// A release waits for this before it looks at the slot. The table is longer than it had to be so that the begin needs
    /// no mask, and the ticket *before* counts, which in a ticket lock is the unlocker's own: two instructions less.
    #[inline]
    #[cfg(not(any(loom, shuttle)))]
    pub(super) fn index(self) -> usize {
        let begin = (self.lock >> 3).wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as usize) >> (usize::BITS - 10);
        begin + (self.ticket.wrapping_sub(1) & 1023) as usize
    }
}

/// Somebody is parked here.
pub const PARKED: u32 = 1;
/// Unlockers must fence themselves: no waiter can do it for them (`membarrier` is missing, or not asked for yet).
pub const SYMMETRIC: u32 = 2;
/// The next owner is not parked, but needs the CPU of whom it follows.
pub const YIELD: u32 = 4;
/// A waiter of this slot has left the queue.
pub const LEFT: u32 = 8;
/// What a kick adds: a waiter that read an older epoch does not sleep.
pub const EPOCH: u32 = 16;
/// What an unlocker has to look at.
pub const FLAGS: u32 = PARKED | SYMMETRIC | YIELD | LEFT;

/// How many slots a table has: a lock's begin anywhere in the first 1024.
pub(super) const PLACES: usize = 2 * 1024;

/// The slots: one table for each backend, since a kick clears a slot for all who park there, but wakes only whom its own
/// backend blocked.
///
/// | bits | name | means | set by | cleared by |
/// |---|---|---|---|---|
/// | 0 | `PARKED` | a waiter of this slot is about to sleep, or sleeps | waiters | the kicker alone, *before* it wakes |
/// | 1 | `SYMMETRIC` | unlockers fence, and look again | birth | the first unlocker who looks, if `membarrier` is there |
/// | 2 | `YIELD` | a waiter of this slot asks the unlocker to let it run | waiters | the unlocker, before it yields |
/// | 3 | `LEFT` | a ticket of this slot is in the set of those whose waiters left | with the set locked | with it locked |
/// | 4–31 | epoch | number of kicks, modulo 2²⁸ | | |
#[derive(Debug)]
pub struct Slots<W = [AtomicU32; PLACES]>(W);

#[cfg(not(any(loom, shuttle)))]
impl Default for Slots {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(not(any(loom, shuttle)))]
impl Slots {
    /// A table where nobody is parked.
    pub const fn new() -> Self {
        Slots([const { AtomicU32::new(SYMMETRIC) }; PLACES])
    }

    /// The slot of a ticket.
    #[inline]
    pub fn of(&self, want: Want) -> &AtomicU32 {
        &self.0[want.index()]
    }
}

#[cfg(any(loom, shuttle))]
impl Slots<Box<[AtomicU32]>> {
    /// A table of its own, for a model with fewer slots than threads; with the symmetric fence or without.
    ///
    /// # Panics
    /// If there is no slot.
    pub fn few(count: u32, symmetric: bool) -> Self {
        assert!(count > 0, "a table of parked waiters needs a slot");
        Slots((0..count).map(|_| AtomicU32::new(if symmetric { SYMMETRIC } else { 0 })).collect())
    }

    /// The slot of a ticket.
    pub fn get(&self, want: Want) -> &AtomicU32 {
        &self.0[want.ticket as usize % self.0.len()]
    }
}
