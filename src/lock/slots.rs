//! The table of parked waiters: the flag "someone waits for this ticket" is here and not in the lock.
//!
//! A slot belongs to all tickets of all locks that hash to it. The unlocker looks at the slot of the next ticket alone,
//! so it calls out only if the *next owner* (or one who shares its slot: a kick too many, never one too few) is parked;
//! there is no flag in the lock to clear, hence no race to clear it, and no memory of the lock to touch after releasing.
//!
//! As long as nobody has waited on any lock of the table it does not even look there: a word says so ([`Slots::waited`]),
//! whose place does not hang on lock or ticket. Whoever is about to set a flag in a slot says it first.

use super::sync::{AtomicU32, Ordering};

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
/// Unlockers must fence themselves: no waiter can do it for them (`membarrier` is missing, or not asked for yet). Of a slot,
/// and of [`Slots::waited`].
pub const SYMMETRIC: u32 = 2;
/// In [`Slots::waited`]: some slot has a flag, or had.
pub const WAITED: u32 = 1;
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
///
/// `waited` is beside them, in a line that is written to twice in the life of the process:
///
/// | bits | name | means | set by | cleared by |
/// |---|---|---|---|---|
/// | 0 | `WAITED` | a slot may have a flag | waiters, before the flag in the slot | nobody |
/// | 1 | `SYMMETRIC` | slots have that flag from birth | birth | who clears the first of them |
#[derive(Debug)]
#[repr(C)]
pub struct Slots<W = [AtomicU32; PLACES]> {
    waited: Alone,
    places: W,
}

/// A word without neighbours: who writes to the slots does not take its line from those who release.
#[derive(Debug)]
#[repr(align(128))]
struct Alone(AtomicU32);

/// Says that a slot is going to have a flag, in a word as [`Slots::waited`]; and whether every unlocker looks at its slot,
/// as the word asked for from the first.
///
/// It is `SYMMETRIC`, then, if that is cleared before anybody has waited, 0, then `WAITED`: or never 0. So who finds
/// `SYMMETRIC` knows that no unlocker can have passed by its slot; who does not, has every CPU fence.
#[inline]
pub fn announce(waited: &AtomicU32) -> bool {
    let seen = match waited.load(Ordering::Relaxed) {
        seen if seen & WAITED != 0 => seen,
        _ => waited.fetch_or(WAITED, Ordering::Relaxed),
    };
    seen & SYMMETRIC != 0
}

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
        Slots { waited: Alone(AtomicU32::new(SYMMETRIC)), places: [const { AtomicU32::new(SYMMETRIC) }; PLACES] }
    }

    /// The slot of a ticket.
    #[inline]
    pub fn of(&self, want: Want) -> &AtomicU32 {
        &self.places[want.index()]
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
        let word = || AtomicU32::new(if symmetric { SYMMETRIC } else { 0 });
        Slots { waited: Alone(word()), places: (0..count).map(|_| word()).collect() }
    }

    /// The slot of a ticket.
    pub fn get(&self, want: Want) -> &AtomicU32 {
        &self.places[want.ticket as usize % self.places.len()]
    }
}

impl<W> Slots<W> {
    /// Whether anybody has waited: 0 as long as no slot has anything to look at.
    #[inline]
    pub fn waited(&self) -> &AtomicU32 {
        &self.waited.0
    }
}
