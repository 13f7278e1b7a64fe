//! The table of parked waiters: the flag "someone waits for this ticket" is here and not in the lock.
//!
//! A slot belongs to all tickets of all locks that hash to it. The unlocker looks at the slot of the next ticket alone,
//! so it calls out only if the *next owner* (or one who shares its slot: a kick too many, never one too few) is parked;
//! there is no flag in the lock to clear, hence no race to clear it, and no memory of the lock to touch after releasing.

use super::fence;
use super::mutants::{Mutant, planted};
use super::ops::PvLockOps;
use super::sync::{AtomicU32, Ordering};

/// Who waits, or is kicked: `lock_spinning(lock, want)`, `unlock_kick(lock, next)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// The lock's address, as a name.
    pub lock: usize,
    /// The ticket.
    pub ticket: u32,
}

/// Somebody is parked here.
pub const PARKED: u32 = 1;
/// Unlockers must fence themselves: no waiter can do it for them (`membarrier` is missing, or not asked for yet).
pub const SYMMETRIC: u32 = 2;
/// What a kick adds: a waiter that read an older epoch does not sleep.
pub const EPOCH: u32 = 4;

/// A power of two of slots: one table for each backend, since a kick clears a slot for all who park there, but wakes only
/// whom its own backend blocked.
///
/// | bits | name | means | set by | cleared by |
/// |---|---|---|---|---|
/// | 0 | `PARKED` | a waiter of this slot is about to sleep, or sleeps | waiters | the kicker alone, *before* it wakes |
/// | 1 | `SYMMETRIC` | unlockers fence, and look again | birth | the first unlocker who looks, if `membarrier` is there |
/// | 2–31 | epoch | number of kicks, modulo 2³⁰ | | |
#[derive(Debug)]
pub struct Slots<W = [AtomicU32; 1024]>(W);

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
        Slots([const { AtomicU32::new(SYMMETRIC) }; 1024])
    }

    /// The slot of a ticket.
    #[inline]
    pub fn of(&self, want: Want) -> &AtomicU32 {
        // Fibonacci hashing; tickets of one lock lie side by side, so two of them share no slot unless 1024 apart.
        let hash = (want.lock >> 3).wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as usize) >> (usize::BITS - 10);
        &self.0[(hash.wrapping_add(want.ticket as usize)) & 1023]
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

/// A waiter's side: says that it waits, looks once more, sleeps. Returns when it makes sense to look again.
///
/// `look` says whether there is nothing left to wait for.
#[inline]
pub fn wait<O: PvLockOps>(ops: &O, want: Want, look: impl Fn() -> bool) {
    let slot = ops.slot(want);
    if planted(Mutant::PublishAfterLook) && look() {
        return;
    }
    let seen = slot.fetch_or(PARKED, Ordering::AcqRel) | PARKED;
    let ordered = fence::heavy(seen & SYMMETRIC != 0);
    if !planted(Mutant::PublishAfterLook) && !planted(Mutant::NoLookAfterPublish) && look() {
        if planted(Mutant::WrongHandClears) {
            slot.fetch_and(!PARKED, Ordering::AcqRel);
        }
        return;
    }
    if let Some(counters) = ops.counters() {
        counters.wait();
    }
    if ordered {
        ops.lock_spinning(slot, seen, want);
    } else {
        // membarrier was there and is no more (a seccomp filter put on since): no sleep may rest on it.
        ops.nap(core::time::Duration::from_micros(100));
    }
}

/// An unlocker's side: releases by `store`, and kicks who waits for `next`. From the store on the lock is the next owner's,
/// who may be done with it already and have freed it: `touch` is what must not be done then, and only a mutant does.
#[inline(always)]
pub fn release<O: PvLockOps>(ops: &O, next: Want, store: impl FnOnce(), touch: impl FnOnce() -> u32) {
    let slot = ops.slot(next);
    if planted(Mutant::KickBeforeRelease) {
        let parked = slot.load(Ordering::Relaxed) & PARKED != 0;
        store();
        if parked {
            kick(*ops, slot, next);
        }
        return;
    }
    store();
    if planted(Mutant::TouchAfterRelease) {
        let _ = touch();
    }
    if !planted(Mutant::MissingFence) {
        fence::light();
    }
    let flags = slot.load(Ordering::Relaxed);
    if planted(Mutant::MissingFence) && flags & PARKED == 0 {
        return;
    }
    if flags & (PARKED | SYMMETRIC) != 0 {
        kick(*ops, slot, next);
    }
}

/// An unlocker's side, after its release: wakes whoever is parked in the slot. It knows no lock: that may be gone.
#[cold]
#[inline(never)]
pub fn kick<O: PvLockOps>(ops: O, slot: &AtomicU32, next: Want) {
    let mut seen = slot.load(Ordering::Relaxed);
    if seen & SYMMETRIC != 0 {
        fence::full();
        // Slot by slot: a waiter knows from its own publishing whether those who look at that slot fence.
        seen = if fence::asymmetric() {
            slot.fetch_and(!SYMMETRIC, Ordering::AcqRel) & !SYMMETRIC
        } else {
            slot.load(Ordering::Relaxed)
        };
    }
    while seen & PARKED != 0 {
        if planted(Mutant::WakeBeforeClear) {
            ops.unlock_kick(slot, next);
        }
        let cleared = (seen & !PARKED).wrapping_add(EPOCH);
        match slot.compare_exchange(seen, cleared, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => {
                if let Some(counters) = ops.counters() {
                    counters.kick();
                }
                if !planted(Mutant::WakeBeforeClear) {
                    ops.unlock_kick(slot, next);
                }
                return;
            }
            Err(now) => seen = now,
        }
    }
}
