//! `pv-ticket-4.0`: the flag in the head, so that one `xadd` releases and brings the flag (d6abfdb20223).

use core::time::Duration;

use super::limit::Until;
use super::ops::{self, PvLockOps};
use super::parking;
use super::patience::{self, Waiting};
use super::raw::RawLock;
use super::slots::Want;
use super::sync::{AtomicU32, LockMemory, Ordering, const_fn};

/// `TICKET_LOCK_INC`: tickets count by two, the low bit is the flag.
pub(super) const STEP: u16 = 2;
/// `TICKET_SLOWPATH_FLAG`.
pub(super) const SLOWPATH: u16 = 1;

/// The pv ticket lock as repaired in 4.0.
///
/// The flag halves the tickets: 32768. An acquirer whom nobody follows clears the flag.
pub struct PvTicketLock4_0<O = ops::Default> {
    /// | bits | means |
    /// |---|---|
    /// | 0 | slow path: someone is parked |
    /// | 1–15 | head: the ticket that holds the lock |
    /// | 17–31 | tail: the next ticket to give |
    ///
    /// One word, which the kernel adds to by halves and we by `cmpxchg`: Rust's atomics have one size.
    word: LockMemory<AtomicU32>,
    ops: O,
}

/// What both of the kernel's locks have besides: they differ in where the flag is.
macro_rules! two_halves {
    ($lock:ident) => {
        impl<O: PvLockOps> $lock<O> {
            const_fn! {
                /// A free lock that is enlightened by these ops.
                pub fn with_ops(ops: O) -> Self {
                    $lock { word: LockMemory::new(AtomicU32::new(0)), ops }
                }
            }

            /// What freeing it would be.
            #[cfg(loom)]
            pub fn retire(&self) {
                self.word.retire();
            }

            fn want(&self, ticket: u16) -> Want {
                Want { lock: self.word.address(), ticket: u32::from(ticket / STEP) }
            }
        }
    };
}
pub(super) use two_halves;

/// The halves of a word: head and tail.
pub(super) fn halves(word: u32) -> (u16, u16) {
    let [a, b, c, d] = word.to_le_bytes();
    (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]))
}

/// The word of these halves.
pub(super) fn word(head: u16, tail: u16) -> u32 {
    u32::from(head) | u32::from(tail) << 16
}

/// Spins for a while, then blocks, until `is_mine`; `flag` says in the lock that somebody is parked, before the last look.
pub(super) fn wait_turn<O: PvLockOps>(ops: &O, want: Want, is_mine: impl Fn() -> bool, flag: impl Fn()) {
    let mut spins = 0;
    'blocked: loop {
        if is_mine() {
            break;
        }
        let mut waiting = Waiting::begin(ops.patience());
        while waiting.turn(ops) {
            if is_mine() {
                spins += waiting.spins;
                break 'blocked;
            }
        }
        spins += waiting.spins;
        if ops.blocks() {
            parking::wait(ops, want, None, || {
                flag();
                is_mine()
            });
        } else {
            super::sync::relax();
        }
    }
    if let Some(counters) = ops.counters() {
        counters.slow_path(spins);
    }
}

two_halves!(PvTicketLock4_0);

impl<O: PvLockOps> PvTicketLock4_0<O> {
    fn head(&self) -> u16 {
        halves(self.word.load(Ordering::Acquire)).0 & !SLOWPATH
    }

    #[cold]
    fn wait(&self, ticket: u16) {
        wait_turn(
            &self.ops,
            self.want(ticket),
            || self.head() == ticket,
            || {
                // __ticket_enter_slowpath()
                self.word.fetch_or(u32::from(SLOWPATH), Ordering::SeqCst);
            },
        );
        self.check_and_clear_slowpath();
    }

    /// `__ticket_check_and_clear_slowpath()`.
    fn check_and_clear_slowpath(&self) {
        let seen = self.word.load(Ordering::Relaxed);
        let (head, tail) = halves(seen);
        if head & SLOWPATH != 0 && tail == (head & !SLOWPATH).wrapping_add(STEP) {
            let cleared = word(head & !SLOWPATH, tail);
            let _ = self.word.compare_exchange(seen, cleared, Ordering::AcqRel, Ordering::Relaxed);
        }
    }
}

// SAFETY: a ticket is given once in 32768, the head shows one ticket at a time, and only its owner moves it on.
unsafe impl<O: PvLockOps> RawLock for PvTicketLock4_0<O> {
    const PROTOCOL: &'static str = "pv-ticket-4.0";
    type Held = ();

    fn lock(&self) {
        let (head, tail) = halves(self.word.fetch_add(u32::from(STEP) << 16, Ordering::Acquire));
        if head & !SLOWPATH != tail {
            self.wait(tail);
        }
    }

    fn try_lock(&self) -> bool {
        let seen = self.word.load(Ordering::Relaxed);
        let (head, tail) = halves(seen);
        let next = word(head, tail.wrapping_add(STEP));
        head & !SLOWPATH == tail && self.word.compare_exchange(seen, next, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    fn try_lock_for(&self, time: Duration) -> bool {
        patience::poll(&self.ops, &mut Until::new(Some(time), None), || self.try_lock())
    }

    #[inline]
    fn held(&self) {}

    unsafe fn unlock(&self) {
        let ops = self.ops;
        let lock = self.want(0);
        let step = |seen: u32| {
            let (head, tail) = halves(seen);
            Some(word(head.wrapping_add(STEP), tail))
        };
        // The whole release: nothing of the lock is touched after it.
        let (Ok(seen) | Err(seen)) = self.word.fetch_update(Ordering::SeqCst, Ordering::Relaxed, step);
        let (head, _) = halves(seen);
        if head & SLOWPATH != 0 {
            let next = (head & !SLOWPATH).wrapping_add(STEP);
            let want = Want { ticket: u32::from(next / STEP), ..lock };
            parking::kick_next(ops, want);
        }
    }

    fn is_locked(&self) -> bool {
        let (head, tail) = halves(self.word.load(Ordering::Relaxed));
        head & !SLOWPATH != tail
    }

    fn is_contended(&self) -> bool {
        let (head, tail) = halves(self.word.load(Ordering::Relaxed));
        tail.wrapping_sub(head & !SLOWPATH) > STEP
    }
}
