//! Parking and kicking by a slot: a waiter says that it waits, looks once more, and sleeps; an unlocker releases, looks at
//! the slot of the next ticket, and kicks whoever is parked there.

use super::fence;
use super::mutants::{Mutant, planted};
use super::ops::PvLockOps;
use super::slots::{EPOCH, FLAGS, PARKED, SYMMETRIC, Want, YIELD};
use super::sync::{AtomicU32, Ordering};

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
