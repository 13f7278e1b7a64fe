//! `pv-ticket`: a strict FIFO lock that is released by a plain store.

use core::time::Duration;

use super::default_backend::default_backend;
#[cfg(all(feature = "std", not(any(loom, shuttle))))]
use super::left::Left;
use super::limit::{Limit, Never, Until};
use super::ops::{self, PvLockOps};
use super::parking::{self, Leaving};
use super::patience::{self, Waiting};
use super::raw::{Leave, RawLock};
use super::slots::Want;
use super::sync::{AtomicU32, LockMemory, Ordering, const_fn};

/// A ticket lock that serves strictly in the order of arrival, on as few instructions as the plain one.
///
/// Acquiring is one `lock xadd`. Releasing is a plain store of the head and a plain look at whether anybody has waited
/// on a lock of this backend since the process began; then at the slot of the next ticket too ([`Slots`](super::Slots)), and
/// only if the next owner is parked there does it call out. A holder that kept its ticket
/// ([`RawLock::release`], which a [`Guard`](super::Guard) calls, and Python's `release()`) loads no word of the lock.
/// [`RawLock::unlock`] reads the head first, as a plain ticket lock does: what it stores there is one more. (`lock_api`'s
/// `RawMutex` keeps nothing from acquire to release but the lock, and the head is where that has the ticket.) No memory
/// of the lock is touched after the releasing store: the next owner may free it.
///
/// Who waits lets others run for a while before it parks, so that its CPU has not gone idle when its turn comes. Of the
/// waiters on one CPU the first in the queue spins, all others let it run; and where the CPU gets to its waiters in
/// another order than the queue's, the next owner asks whom it follows to let it run at the release
/// ([`Place`](super::ops::Place)). So it takes one switch of threads to hand over the lock, not as many as wait.
///
/// A waiter whose time is up leaves the queue ([`RawLock::try_lock_for`]): the last of the queue gives its ticket back,
/// and another's ticket is passed over when its turn comes (`src/lock/left.rs`). There are 2³² tickets, more than a
/// system has threads. A child made by `fork` while a thread of the parent held the lock inherits a held lock whose
/// holder it does not have: as with every lock in memory it must not wait for it (`try_lock` says so).
pub struct PvTicketLock<O = ops::Default> {
    /// | word | means | written by |
    /// |---|---|---|
    /// | tail | the next ticket to give | everyone, `xadd` |
    /// | head | the ticket that holds the lock | the holder, plain store |
    ///
    /// Side by side and 8 bytes aligned, so that no lock straddles two cache lines.
    words: LockMemory<Words>,
    ops: O,
}

#[repr(C, align(8))]
struct Words {
    tail: AtomicU32,
    head: AtomicU32,
}

default_backend!(PvTicketLock);

impl<O> PvTicketLock<O> {
    const_fn! {
        /// A free lock whose next ticket is this one: to see the tickets wrap.
        pub fn at(ticket: u32, ops: O) -> Self {
            let words = Words { tail: AtomicU32::new(ticket), head: AtomicU32::new(ticket) };
            PvTicketLock { words: LockMemory::new(words), ops }
        }
    }

    #[inline]
    fn want(&self, ticket: u32) -> Want {
        Want { lock: self.words.address(), ticket }
    }
}

impl<O: PvLockOps> PvTicketLock<O> {
    /// Acquires, and says with which ticket: they are served one by one, in the order they were given.
    #[inline]
    pub fn acquire(&self) -> u32 {
        let ticket = self.words.tail.fetch_add(1, Ordering::Acquire);
        let head = self.head();
        if head != ticket {
            self.wait(ticket, head, &mut Never);
        }
        ticket
    }

    #[inline]
    fn head(&self) -> u32 {
        self.words.head.load(Ordering::Acquire)
    }

    /// Waits for the turn of a ticket, when the head was another one. False: it has left the queue.
    #[cold]
    #[inline(never)]
    fn wait<L: Limit>(&self, ticket: u32, head: u32, limit: &mut L) -> bool {
        let mut looks = 0;
        if ticket.wrapping_sub(head) == 1 {
            while looks < O::FIRST_LOOKS {
                super::sync::relax();
                looks += 1;
                if self.head() == ticket {
                    self.count(u64::from(looks));
                    return true;
                }
            }
        }
        self.wait_in_queue(ticket, head, u64::from(looks), limit)
    }

    fn count(&self, looks: u64) {
        if let Some(counters) = self.ops.counters() {
            counters.slow_path(looks);
        }
    }

    #[inline(never)]
    fn wait_in_queue<L: Limit>(&self, ticket: u32, mut head: u32, looks: u64, limit: &mut L) -> bool {
        let (ops, want) = (&self.ops, self.want(ticket));
        let mut waiting = Waiting::begin(ops.patience());
        let mut slept = false;
        let has_turn = loop {
            if head == ticket {
                break true;
            }
            if limit.is_over(core::mem::take(&mut slept)) {
                match self.leave(ticket) {
                    Leaving::Gone => break false,
                    Leaving::Turn => break true,
                    Leaving::Stays => ops.nap(Duration::from_micros(100)),
                }
            }
            if !waiting.turn_in_queue(ops, want, ticket.wrapping_sub(head), || self.head() == ticket) {
                if !ops.blocks() {
                    super::sync::relax();
                } else if parking::wait(ops, want, limit.longest_sleep(), || self.head() == ticket) {
                    break true;
                }
                slept = true;
                waiting.again();
            }
            head = self.head();
        };
        self.count(looks + waiting.spins);
        has_turn
    }

    /// Leaves the queue, if its turn has not come.
    #[cold]
    fn leave(&self, ticket: u32) -> Leaving {
        // Nobody is behind it: the ticket is given again.
        let last = ticket.wrapping_add(1);
        if self.words.tail.compare_exchange(last, ticket, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            return Leaving::Gone;
        }
        parking::leave(&self.ops, self.want(ticket), || self.head() == ticket)
    }

    /// Waits in the queue, unless that is so long that tickets might run out: of those that left, each is a ticket more.
    fn lock_until<L: Limit>(&self, limit: &mut L) -> bool {
        const LONGEST: u32 = 1 << 16;
        let queue = self.words.tail.load(Ordering::Relaxed).wrapping_sub(self.head());
        if cfg!(not(feature = "std")) || queue > LONGEST {
            return patience::poll(&self.ops, limit, || self.try_lock());
        }
        let ticket = self.words.tail.fetch_add(1, Ordering::Acquire);
        let head = self.head();
        head == ticket || self.wait(ticket, head, limit)
    }

    /// Says what to look at in the slot of the next ticket.
    #[inline(always)]
    fn release_to(&self, ops: &O, next: u32) -> u32 {
        let store = || self.words.head.store(next, Ordering::Release);
        parking::release(ops, self.want(next), store, || self.words.tail.load(Ordering::Relaxed))
    }

    /// Kicks the owner of the next ticket; if that has left, the one after it.
    #[cold]
    #[inline(never)]
    fn kick(&self, ops: O, mut next: u32) {
        while parking::kick(ops, self.want(next), || self.head() == next) {
            next = next.wrapping_add(1);
            if self.release_to(&ops, next) == 0 {
                return;
            }
        }
    }

    /// Makes it free, whoever holds it and whoever waits. Tickets of those who left stay noted: none is given again.
    ///
    /// # Safety
    /// Nobody else uses it or ever will on the strength of a ticket: as in the child of a fork.
    pub unsafe fn set_free(&self) {
        self.words.head.store(self.words.tail.load(Ordering::Relaxed), Ordering::Release);
    }
}

impl<O> PvTicketLock<O> {
    /// Takes the tickets of waiters that left its queue out of the set.
    fn forget(&self) {
        #[cfg(all(feature = "std", not(any(loom, shuttle))))]
        Left::of_process().forget(self.words.address());
    }
}

impl<O> Drop for PvTicketLock<O> {
    fn drop(&mut self) {
        // Held: waiters may have left.
        if self.words.tail.load(Ordering::Relaxed) != self.words.head.load(Ordering::Relaxed) {
            self.forget();
        }
    }
}

// SAFETY: a ticket is given once in 2³², the head shows one ticket at a time, and only its owner moves it on.
unsafe impl<O: PvLockOps> RawLock for PvTicketLock<O> {
    const PROTOCOL: &'static str = "pv-ticket";
    type Held = u32;

    #[inline]
    fn lock(&self) {
        self.acquire();
    }

    #[inline]
    fn try_lock(&self) -> bool {
        let head = self.words.head.load(Ordering::Acquire);
        self.words.tail.compare_exchange(head, head.wrapping_add(1), Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    fn try_lock_for(&self, time: Duration) -> bool {
        self.try_lock() || !time.is_zero() && self.lock_until(&mut Until::new(Some(time), None))
    }

    fn lock_unless(&self, time: Option<Duration>, leave: &mut Leave<'_>) -> bool {
        self.try_lock() || self.lock_until(&mut Until::new(time, Some(leave)))
    }

    #[inline]
    fn acquire(&self) -> u32 {
        self.acquire()
    }

    #[inline]
    fn held(&self) -> u32 {
        self.words.head.load(Ordering::Relaxed)
    }

    #[inline]
    unsafe fn release(&self, ticket: u32) {
        let ops = self.ops;
        let next = ticket.wrapping_add(1);
        if self.release_to(&ops, next) != 0 {
            self.kick(ops, next);
        }
    }

    #[inline]
    unsafe fn unlock(&self) {
        // SAFETY: the caller holds the lock, so the head is its ticket.
        unsafe { self.release(self.held()) };
    }

    fn is_locked(&self) -> bool {
        self.words.tail.load(Ordering::Relaxed) != self.words.head.load(Ordering::Relaxed)
    }

    fn is_contended(&self) -> bool {
        let head = self.words.head.load(Ordering::Relaxed);
        self.words.tail.load(Ordering::Relaxed).wrapping_sub(head) > 1
    }
}
