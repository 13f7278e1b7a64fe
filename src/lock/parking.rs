//! Parking and kicking by a slot: a waiter says that it waits, looks once more, and sleeps; an unlocker releases, looks at
//! the slot of the next ticket, and kicks whoever is parked there.

use core::time::Duration;

use super::fence;
use super::mutants::{Mutant, planted};
use super::ops::PvLockOps;
#[cfg(feature = "std")]
use super::slots::LEFT;
use super::slots::{EPOCH, FLAGS, PARKED, SYMMETRIC, Want, YIELD, announce};
use super::sync::Ordering;

/// A waiter's side: says that it waits, looks once more, sleeps, at most so long. Returns when it makes sense to look
/// again.
///
/// `look` says whether there is nothing left to wait for; what it said last is returned, `false` after a sleep.
#[inline]
pub fn wait<O: PvLockOps>(ops: &O, want: Want, longest: Option<Duration>, look: impl Fn() -> bool) -> bool {
    let slot = ops.slot(want);
    if planted(Mutant::PublishAfterLook) && look() {
        return true;
    }
    // Before the slot says so: an unlocker that sees that nobody has waited does not look there.
    let symmetric = planted(Mutant::AnnounceAfterLook) || announce(ops.waited());
    let seen = slot.fetch_or(PARKED, Ordering::AcqRel) | PARKED;
    let ordered = fence::heavy(symmetric && seen & SYMMETRIC != 0);
    if !planted(Mutant::PublishAfterLook) && !planted(Mutant::NoLookAfterPublish) && look() {
        if planted(Mutant::WrongHandClears) {
            slot.fetch_and(!PARKED, Ordering::AcqRel);
        }
        return true;
    }
    if planted(Mutant::AnnounceAfterLook) {
        announce(ops.waited());
    }
    if let Some(counters) = ops.counters() {
        counters.wait();
    }
    if ordered {
        match longest {
            None => ops.lock_spinning(slot, seen, want),
            Some(time) => ops.lock_spinning_for(slot, seen, want, time),
        }
    } else {
        // A seccomp filter installed since refuses membarrier: nothing orders the last look, so no waiter may sleep.
        ops.nap(Duration::from_micros(100));
    }
    false
}

/// A waiter's side, out of turn on its CPU: asks the thread that releases the lock to it to yield then. A hint: where the
/// slot is another waiter's by then, a thread yields without need.
#[cold]
pub fn ask<O: PvLockOps>(ops: &O, want: Want) {
    announce(ops.waited());
    ops.slot(want).fetch_or(YIELD, Ordering::Relaxed);
}

/// What came of an attempt to leave the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "std"), allow(dead_code))]
pub enum Leaving {
    /// It has left.
    Gone,
    /// Its turn came meanwhile.
    Turn,
    /// It cannot leave: no fence orders its look after its mark.
    Stays,
}

/// A waiter's side that would leave, with others behind it: says so, and looks once more. `is_turn` is a look that says
/// whether its turn has come; who is told that it has must take it.
#[cfg(feature = "std")]
pub fn leave<O: PvLockOps>(ops: &O, want: Want, is_turn: impl FnOnce() -> bool) -> Leaving {
    let slot = ops.slot(want);
    let symmetric = announce(ops.waited());
    let (given, seen) = ops.left().insert(slot, want);
    let ordered = fence::heavy(symmetric && seen & SYMMETRIC != 0);
    if planted(Mutant::LeaveWithoutLook) {
        return Leaving::Gone;
    }
    if ordered && !is_turn() {
        return Leaving::Gone;
    }
    if planted(Mutant::LeaveAndEnter) {
        return Leaving::Turn;
    }
    match ops.left().take_back(slot, want, given) {
        false => Leaving::Gone,
        true if ordered => Leaving::Turn,
        true => Leaving::Stays,
    }
}

/// Without a place to note the ticket in nobody can leave.
#[cfg(not(feature = "std"))]
pub fn leave<O: PvLockOps>(_: &O, _: Want, _: impl FnOnce() -> bool) -> Leaving {
    Leaving::Stays
}

/// The owner's side, when it has made a ticket the head of a queue that only it can serve: whether the waiter has left.
#[cfg(feature = "std")]
pub fn has_left<O: PvLockOps>(ops: &O, want: Want) -> bool {
    fence::full();
    let slot = ops.slot(want);
    !planted(Mutant::NobodySkips) && slot.load(Ordering::Relaxed) & LEFT != 0 && ops.left().take(slot, want, || true)
}

/// An unlocker's side: releases by `store`, and says what [`kick`] has to look at in the slot of `next`; 0: nothing. From
/// the store on the lock is the next owner's, who may be done with it already and have freed it: `touch` is what must not
/// be done then, and only a mutant does.
#[inline(always)]
pub fn release<O: PvLockOps>(ops: &O, next: Want, store: impl FnOnce(), touch: impl FnOnce() -> u32) -> u32 {
    let slot = ops.slot(next);
    if planted(Mutant::KickBeforeRelease) {
        let flags = slot.load(Ordering::Relaxed);
        store();
        return flags & PARKED;
    }
    let waited = ops.waited();
    store();
    if planted(Mutant::TouchAfterRelease) {
        let _ = touch();
    }
    if !planted(Mutant::MissingFence) {
        fence::light();
    }
    if waited.load(Ordering::Relaxed) == 0 {
        return 0;
    }
    unlikely();
    let flags = slot.load(Ordering::Relaxed);
    if planted(Mutant::MissingFence) {
        return flags & PARKED;
    }
    flags & FLAGS
}

/// Where this is called, the compiler takes the path for the rarer one: the other has no jump then.
#[cold]
const fn unlikely() {}

/// An unlocker's side, after its release and a full fence: as [`release`] does it, for locks that know by a flag of their
/// own that somebody waits, and whose waiters do not leave.
pub fn kick_next<O: PvLockOps>(ops: O, next: Want) {
    kick(ops, next, || false);
}

/// Wakes whoever is parked in the slot of `next`, and yields to a waiter that asked for it; after the release, where the
/// slot says that there is something to do. It does not touch the lock, which may have been freed.
///
/// True if the waiter of `next` has left, and the lock with its turn is the unlocker's again: `inherit` looks at the lock
/// whether that is so, or makes it so; it is called only while the lock lives.
pub fn kick<O: PvLockOps>(ops: O, next: Want, inherit: impl FnOnce() -> bool) -> bool {
    let slot = ops.slot(next);
    let mut seen = slot.load(Ordering::Relaxed);
    if seen & SYMMETRIC != 0 {
        fence::full();
        // Slot by slot: a waiter knows from its own publishing whether those who look at that slot fence.
        seen = if fence::is_settled() {
            ops.waited().fetch_and(!SYMMETRIC, Ordering::Relaxed);
            slot.fetch_and(!SYMMETRIC, Ordering::AcqRel) & !SYMMETRIC
        } else {
            slot.load(Ordering::Relaxed)
        };
    }
    #[cfg(feature = "std")]
    if seen & LEFT != 0 && !planted(Mutant::NobodySkips) && ops.left().take(slot, next, inherit) {
        return true;
    }
    #[cfg(not(feature = "std"))]
    let _ = inherit;
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
    ops.settle();
    false
}
