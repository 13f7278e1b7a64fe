//! `pv-ticket-3.12`: the flag in the tail, as merged (545ac13892ab, 96f853eaa889), with its defect.

use core::time::Duration;

use super::fence;
use super::limit::Until;
use super::ops::{self, PvLockOps};
use super::parking;
use super::patience;
use super::pv_4_0::{SLOWPATH, STEP, halves, two_halves, wait_turn, word};
use super::raw::RawLock;
use super::slots::Want;
use super::sync::{AtomicU32, LockMemory, Ordering, const_fn};

/// The pv ticket lock as merged in 3.12.
///
/// Its release adds to the head, and *then* looks at the tail for the flag: by that time the next owner may have
/// released the lock as well and freed it. Of all locks here it is the one that touches freed memory; it is here for the
/// history, and [`PvTicketLock4_0`](super::PvTicketLock4_0) is its repair.
pub struct PvTicketLock3_12<O = ops::Default> {
    /// | bits | means |
    /// |---|---|
    /// | 1–15 | head: the ticket that holds the lock |
    /// | 16 | slow path: someone is parked |
    /// | 17–31 | tail: the next ticket to give |
    word: LockMemory<AtomicU32>,
    ops: O,
}

two_halves!(PvTicketLock3_12);

impl<O: PvLockOps> PvTicketLock3_12<O> {
    fn head(&self) -> u16 {
        halves(self.word.load(Ordering::Acquire)).0
    }

    #[cold]
    fn wait(&self, ticket: u16) {
        wait_turn(
            &self.ops,
            self.want(ticket),
            || self.head() == ticket,
            || {
                self.word.fetch_or(u32::from(SLOWPATH) << 16, Ordering::SeqCst);
            },
        );
    }

    /// `__ticket_unlock_slowpath()`: the last of the queue clears the flag; otherwise the next owner is kicked.
    #[cold]
    fn unlock_slowpath(&self, old_head: u16) {
        let next = old_head.wrapping_add(STEP);
        let (alone, flagged) = (word(next, next), word(next, next | SLOWPATH));
        if self.word.compare_exchange(flagged, alone, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            let want = self.want(next);
            parking::kick_next(self.ops, want);
        }
    }
}

// SAFETY: a ticket is given once in 32768, the head shows one ticket at a time, and only its owner moves it on.
unsafe impl<O: PvLockOps> RawLock for PvTicketLock3_12<O> {
    const PROTOCOL: &'static str = "pv-ticket-3.12";
    type Held = ();

    fn lock(&self) {
        let (head, tail) = halves(self.word.fetch_add(u32::from(STEP) << 16, Ordering::Acquire));
        let ticket = tail & !SLOWPATH;
        if head != ticket {
            self.wait(ticket);
        }
    }

    fn try_lock(&self) -> bool {
        let seen = self.word.load(Ordering::Relaxed);
        let (head, tail) = halves(seen);
        let next = word(head, tail.wrapping_add(STEP));
        head == tail & !SLOWPATH && self.word.compare_exchange(seen, next, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    fn try_lock_for(&self, time: Duration) -> bool {
        patience::poll(&self.ops, &mut Until::new(Some(time), None), || self.try_lock())
    }

    #[inline]
    fn held(&self) {}

    unsafe fn unlock(&self) {
        let step = |seen: u32| {
            let (head, tail) = halves(seen);
            Some(word(head.wrapping_add(STEP), tail))
        };
        let (Ok(seen) | Err(seen)) = self.word.fetch_update(Ordering::SeqCst, Ordering::Relaxed, step);
        fence::full();
        // The defect: the lock is another's by now.
        if halves(self.word.load(Ordering::Relaxed)).1 & SLOWPATH != 0 {
            self.unlock_slowpath(halves(seen).0);
        }
    }

    fn is_locked(&self) -> bool {
        let (head, tail) = halves(self.word.load(Ordering::Relaxed));
        head != tail & !SLOWPATH
    }

    fn is_contended(&self) -> bool {
        let (head, tail) = halves(self.word.load(Ordering::Relaxed));
        (tail & !SLOWPATH).wrapping_sub(head) > STEP
    }
}
