//! The plain ticket lock of 2.6.25 (Piggin, 314cdbefd1fd): fair and small; all waiters spin while the virtual CPU of the
//! next owner does not run.

use core::sync::atomic::AtomicU16;
use core::time::Duration;

use super::limit::Until;
use super::ops::Native;
use super::patience;
use super::raw::{MoreWaitersThanTickets, RawLock};
use super::sync::{AtomicU32, LockMemory, Ordering, const_fn, relax};

/// `ticket-2.6.25`, the word for 256 CPUs and more: `lock xaddl $0x10000`; `incw`.
pub struct TicketLock2_6_25 {
    /// | bits | means | written by |
    /// |---|---|---|
    /// | 0–15 | head: the ticket that holds the lock | the holder |
    /// | 16–31 | tail: the next ticket to give | everyone, `xadd` |
    ///
    /// Two words here: Rust's memory model knows no 16-bit store into a 32-bit atomic.
    words: LockMemory<[AtomicU32; 2]>,
}

impl TicketLock2_6_25 {
    const_fn! {
        /// A free lock.
        pub fn new() -> Self {
            TicketLock2_6_25 { words: LockMemory::new([AtomicU32::new(0), AtomicU32::new(0)]) }
        }
    }
}

impl Default for TicketLock2_6_25 {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: a ticket is given once in 2³² and the head shows one ticket at a time.
unsafe impl RawLock for TicketLock2_6_25 {
    const PROTOCOL: &'static str = "ticket-2.6.25";
    type Held = ();

    #[inline]
    fn lock(&self) {
        let [tail, head] = &*self.words;
        let ticket = tail.fetch_add(1, Ordering::Acquire);
        while head.load(Ordering::Acquire) != ticket {
            relax();
        }
    }

    #[inline]
    fn try_lock(&self) -> bool {
        let [tail, head] = &*self.words;
        let now = head.load(Ordering::Acquire);
        tail.compare_exchange(now, now.wrapping_add(1), Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    fn try_lock_for(&self, time: Duration) -> bool {
        patience::poll(&Native, &mut Until::new(Some(time), None), || self.try_lock())
    }

    #[inline]
    fn held(&self) {}

    #[inline]
    unsafe fn unlock(&self) {
        let [_, head] = &*self.words;
        head.store(head.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
    }

    fn is_locked(&self) -> bool {
        let [tail, head] = &*self.words;
        tail.load(Ordering::Relaxed) != head.load(Ordering::Relaxed)
    }

    fn is_contended(&self) -> bool {
        let [tail, head] = &*self.words;
        tail.load(Ordering::Relaxed).wrapping_sub(head.load(Ordering::Relaxed)) > 1
    }
}

/// `ticket-2.6.25`, the word for fewer than 256 CPUs: `lock xaddw $0x0100`; `incb`.
///
/// 256 tickets: with 256 threads beside each other in it, the next one would read its own ticket in the head and
/// enter. The kernel cannot have more than `NR_CPUS`; a process can, so the word is asked before a ticket is taken.
pub struct SmallTicketLock {
    /// | bits | means | written by |
    /// |---|---|---|
    /// | 0–7 | head: the ticket that holds the lock | the holder |
    /// | 8–15 | tail: the next ticket to give | everyone |
    word: AtomicU16,
}

impl SmallTicketLock {
    /// How many threads may hold it or wait for it.
    pub const TICKETS: u64 = 255;

    /// A free lock for so many threads (`NR_CPUS`).
    ///
    /// # Errors
    /// [`MoreWaitersThanTickets`], beyond 255.
    pub const fn for_threads(threads: u64) -> Result<Self, MoreWaitersThanTickets> {
        if threads > Self::TICKETS {
            return Err(MoreWaitersThanTickets { threads, tickets: Self::TICKETS });
        }
        Ok(SmallTicketLock { word: AtomicU16::new(0) })
    }

    /// A free lock whose next ticket is `ticket`: to see it wrap.
    pub const fn at(ticket: u8) -> Self {
        SmallTicketLock { word: AtomicU16::new(u16::from_le_bytes([ticket, ticket])) }
    }

    /// Takes a ticket.
    ///
    /// # Errors
    /// [`MoreWaitersThanTickets`], if all are out; nothing has changed then.
    pub fn take(&self) -> Result<u8, MoreWaitersThanTickets> {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let [head, tail] = word.to_le_bytes();
            if u64::from(tail.wrapping_sub(head)) >= Self::TICKETS {
                return Err(MoreWaitersThanTickets { threads: Self::TICKETS + 1, tickets: Self::TICKETS });
            }
            let next = u16::from_le_bytes([head, tail.wrapping_add(1)]);
            match self.word.compare_exchange_weak(word, next, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Ok(tail),
                Err(now) => word = now,
            }
        }
    }

    /// Waits for the turn of a ticket.
    pub fn wait(&self, ticket: u8) {
        while self.word.load(Ordering::Acquire).to_le_bytes()[0] != ticket {
            core::hint::spin_loop();
        }
    }
}

// SAFETY: no more tickets are out than there are, so a ticket is owned by one, and the head shows one at a time.
unsafe impl RawLock for SmallTicketLock {
    const PROTOCOL: &'static str = "ticket-2.6.25";
    type Held = ();

    /// # Panics
    /// If 255 threads already hold it or wait for it.
    fn lock(&self) {
        match self.take() {
            Ok(ticket) => self.wait(ticket),
            Err(error) => panic!("{error}"),
        }
    }

    fn try_lock(&self) -> bool {
        let word = self.word.load(Ordering::Relaxed);
        let [head, tail] = word.to_le_bytes();
        let next = u16::from_le_bytes([head, tail.wrapping_add(1)]);
        head == tail && self.word.compare_exchange(word, next, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    fn try_lock_for(&self, time: Duration) -> bool {
        patience::poll(&Native, &mut Until::new(Some(time), None), || self.try_lock())
    }

    #[inline]
    fn held(&self) {}

    unsafe fn unlock(&self) {
        // `incb`: the byte wraps without a carry into the tail.
        let step = |word: u16| {
            let [head, tail] = word.to_le_bytes();
            Some(u16::from_le_bytes([head.wrapping_add(1), tail]))
        };
        let _ = self.word.fetch_update(Ordering::Release, Ordering::Relaxed, step);
    }

    fn is_locked(&self) -> bool {
        let [head, tail] = self.word.load(Ordering::Relaxed).to_le_bytes();
        head != tail
    }

    fn is_contended(&self) -> bool {
        let [head, tail] = self.word.load(Ordering::Relaxed).to_le_bytes();
        tail.wrapping_sub(head) > 1
    }
}
