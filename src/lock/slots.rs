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

impl Want {
    /// Where it is in a table of [`PLACES`]. Fibonacci hashing says where the places of a lock begin; its tickets lie side
    /// by side there, so two of them share no place unless they are 1024 apart.
    ///
    /// A release waits for this, from the head it loads to the slot it looks at. The table is longer than it had to be so
    /// that the begin needs no mask, and the ticket *before* counts, which in a ticket lock is the unlocker's own: two
    /// instructions less.
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
/// What a kick adds: a waiter that read an older epoch does not sleep.
pub const EPOCH: u32 = 8;
/// What an unlocker has to look at.
const FLAGS: u32 = PARKED | SYMMETRIC | YIELD;

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
/// | 3–31 | epoch | number of kicks, modulo 2²⁹ | | |
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

/// A waiter's side: says that it waits, looks once more, sleeps. Returns when it makes sense to look again.
///
/// `look` says whether there is nothing left to wait for; what it said last is returned, `false` after a sleep.
#[inline]
pub fn wait<O: PvLockOps>(ops: &O, want: Want, look: impl Fn() -> bool) -> bool {
    let slot = ops.slot(want);
    if planted(Mutant::PublishAfterLook) && look() {
        return true;
    }
    let seen = slot.fetch_or(PARKED, Ordering::AcqRel) | PARKED;
    let ordered = fence::heavy(seen & SYMMETRIC != 0);
    if !planted(Mutant::PublishAfterLook) && !planted(Mutant::NoLookAfterPublish) && look() {
        if planted(Mutant::WrongHandClears) {
            slot.fetch_and(!PARKED, Ordering::AcqRel);
        }
        return true;
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
    false
}

/// A waiter's side, out of turn on its CPU: asks whoever releases the lock to it to let it run then. A hint: who is
/// asked in vain (the slot is another's by then) lets others run for nothing.
#[cold]
pub fn ask<O: PvLockOps>(ops: &O, want: Want) {
    ops.slot(want).fetch_or(YIELD, Ordering::Relaxed);
}

/// An unlocker's side: releases by `store`, and kicks who waits for `next`. From the store on the lock is the next owner's,
/// who may be done with it already and have freed it: `touch` is what must not be done then, and only a mutant does.
#[inline(always)]
pub fn release<O: PvLockOps>(ops: &O, next: Want, store: impl FnOnce(), touch: impl FnOnce() -> u32) {
    let slot = ops.slot(next);
    if planted(Mutant::KickBeforeRelease) {
        let flags = slot.load(Ordering::Relaxed);
        store();
        if flags & PARKED != 0 {
            kick(*ops, slot, flags, next);
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
    if flags & FLAGS != 0 {
        kick(*ops, slot, flags, next);
    }
}

/// An unlocker's side, after its release and a full fence: as [`release`] does it, for locks that know by a flag of their
/// own that somebody waits.
pub fn kick_next<O: PvLockOps>(ops: O, next: Want) {
    let slot = ops.slot(next);
    kick(ops, slot, slot.load(Ordering::Relaxed), next);
}

/// Wakes whoever is parked in the slot, lets run who asked for it; `seen` is what the slot held after the release. It
/// knows no lock: that may be gone.
#[cold]
#[inline(never)]
fn kick<O: PvLockOps>(ops: O, slot: &AtomicU32, mut seen: u32, next: Want) {
    if seen & SYMMETRIC != 0 {
        fence::full();
        // Slot by slot: a waiter knows from its own publishing whether those who look at that slot fence.
        seen = if fence::asymmetric() {
            slot.fetch_and(!SYMMETRIC, Ordering::AcqRel) & !SYMMETRIC
        } else {
            slot.load(Ordering::Relaxed)
        };
    }
    let asked = seen & YIELD != 0;
    if asked {
        seen = slot.fetch_and(!YIELD, Ordering::AcqRel) & !YIELD;
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
                break;
            }
            Err(now) => seen = now,
        }
    }
    if asked {
        ops.yield_now();
    }
}
