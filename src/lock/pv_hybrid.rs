//! `pv-hybrid`: a byte that is stolen, a ticket queue behind it, and a direct hand-over to who starves.

use core::cell::Cell;
use core::time::Duration;

use super::fence;
use super::ops::{self, PvLockOps};
use super::parking;
use super::patience::{self, Waiting};
use super::raw::RawLock;
use super::slots::Want;
use super::sync::{AtomicU32, Memory, Ordering, const_fn};

const FREE: u32 = 0;
const HELD: u32 = 1;
const HANDED_OVER: u32 = 2;

const STARVING: u32 = 1;
/// From one ticket to the next: the bit below is free.
const STEP: u32 = 2;

/// A lock that prefers who runs to who came first, within limits: throughput of a stealing lock, waits of a queue.
///
/// A free lock is taken by whoever finds it free. Who does not get it within its patience takes a ticket and parks. The
/// head of the queue, kicked by the next release, competes with those who run; if it is not lucky within its patience,
/// or has waited for long before, it *starves*: the next release hands the lock to it and to nobody else.
///
/// Who has to wait first asks whether it has had its turn of the CPU ([`PvLockOps::take_turns`]), and if so lets another
/// thread run: a moment later it might hold the lock when the scheduler takes the CPU away. So threads that share a lock
/// take turns of half a millisecond, shorter than a time slice, and none is preempted as the holder.
///
/// No memory of the lock is touched after the releasing store. Timeouts and `fork` as for
/// [`PvTicketLock`](super::PvTicketLock).
pub struct PvHybridLock<O = ops::Default> {
    words: Memory<Words>,
    ops: O,
}

/// | word | bits | means | written by |
/// |---|---|---|---|
/// | state | all | `FREE`, `HELD`, `HANDED_OVER` (to the head of the queue; nobody else may take it) | `cmpxchg`; holder: store |
/// | head | 1–31 | the ticket at the head of the queue | its owner alone, when it leaves the queue as the holder |
/// | head | 0 | `STARVING`: the next release hands over to it | its owner alone |
/// | tail | 1–31 | the next ticket to give | who queues, `xadd` |
#[repr(C, align(16))]
struct Words {
    state: AtomicU32,
    head: AtomicU32,
    tail: AtomicU32,
}

/// A waiter's turn at the head of the queue.
struct Turn {
    ticket: u32,
    starving: bool,
}

impl PvHybridLock {
    /// A free lock, with the default backend and the best fence the kernel offers.
    pub fn new() -> Self {
        fence::choose();
        Self::with_ops(ops::Default::default())
    }
}

impl Default for PvHybridLock {
    fn default() -> Self {
        Self::new()
    }
}

impl<O> PvHybridLock<O> {
    const_fn! {
        /// A free lock that is enlightened by these ops. It asks for the fence at its first release.
        pub fn with_ops(ops: O) -> Self {
            Self::at(0, ops)
        }
    }

    const_fn! {
        /// A free lock whose queue gives this ticket next, modulo 2³¹: to see the tickets wrap.
        pub fn at(ticket: u32, ops: O) -> Self {
            let ticket = ticket.wrapping_mul(STEP);
            PvHybridLock {
                words: Memory::new(Words {
                    state: AtomicU32::new(FREE),
                    head: AtomicU32::new(ticket),
                    tail: AtomicU32::new(ticket),
                }),
                ops,
            }
        }
    }

    #[inline]
    fn want(&self, ticket: u32) -> Want {
        Want { lock: self.words.address(), ticket: ticket / STEP }
    }

    /// What freeing it would be.
    #[cfg(loom)]
    pub fn retire(&self) {
        self.words.retire();
    }
}

impl<O: PvLockOps> PvHybridLock<O> {
    /// The ops it calls on the slow path.
    pub fn ops(&self) -> &O {
        &self.ops
    }

    #[cold]
    #[inline(never)]
    fn wait(&self) {
        self.ops.take_turns();
        let mut waiting = Waiting::begin(self.ops.patience());
        let stolen = loop {
            if !waiting.turn(&self.ops) {
                break false;
            }
            if self.words.state.load(Ordering::Relaxed) == FREE && self.try_lock() {
                break true;
            }
        };
        if !stolen {
            let ticket = self.words.tail.fetch_add(STEP, Ordering::AcqRel);
            self.queue(ticket, &mut waiting);
        }
        if let Some(counters) = self.ops.counters() {
            counters.slow_path(waiting.spins);
        }
    }

    fn queue(&self, ticket: u32, waiting: &mut Waiting) {
        let words = &*self.words;
        // Nobody but its owner moves it on.
        let is_mine = Cell::new(false);
        let is_head = || {
            is_mine.set(is_mine.get() || words.head.load(Ordering::Acquire) & !STARVING == ticket);
            is_mine.get()
        };
        let mut turn = Turn { ticket, starving: false };
        // The last look before a sleep is an attempt: the head may take a free lock, or one that was handed over, and
        // nobody frees it or hands it over without looking at the head's slot afterwards. What it found:
        let found = Cell::new(None);
        let look = || {
            let was = is_head().then(|| self.take());
            found.set(was);
            was.is_some_and(|state| state != HELD)
        };
        loop {
            if is_head() && self.compete(&mut turn, found.take(), waiting) {
                break;
            }
            if !self.ops.blocks() {
                super::sync::relax();
            } else if !parking::wait(&self.ops, self.want(ticket), look) {
                found.set(None);
            }
        }
        // The ticket moves on before the release does, and the releaser kicks whom it names.
        words.head.store(ticket.wrapping_add(STEP), Ordering::Release);
    }

    /// Takes the lock if it is free, and says what it was.
    #[inline]
    fn take(&self) -> u32 {
        let (Ok(was) | Err(was)) = self.words.state.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Acquire);
        was
    }

    /// The head of the queue asks to be handed the lock.
    fn starve(&self, turn: &mut Turn) {
        if !turn.starving {
            // Nobody else writes the word meanwhile: no locked instruction.
            self.words.head.store(turn.ticket | STARVING, Ordering::Release);
            turn.starving = true;
        }
    }

    /// The head of the queue's attempt to take the lock, within its patience.
    fn compete(&self, turn: &mut Turn, found: Option<u32>, before: &mut Waiting) -> bool {
        let words = &*self.words;
        if before.is_long() {
            self.starve(turn);
        }
        let mut waiting = Waiting::begin(self.ops.patience());
        let mut state = found.unwrap_or_else(|| self.take());
        let won = loop {
            if state == FREE {
                break true;
            }
            if state == HANDED_OVER {
                // Nobody else may change it now.
                words.state.store(HELD, Ordering::Relaxed);
                break true;
            }
            if !waiting.turn(&self.ops) {
                // Tried, and not lucky: from now on it is its right.
                self.starve(turn);
                break false;
            }
            state = words.state.load(Ordering::Acquire);
            if state == FREE {
                state = self.take();
            }
        };
        before.spins += waiting.spins;
        won
    }
}

// SAFETY: `FREE` becomes `HELD` by one cmpxchg; `HANDED_OVER` becomes `HELD` by the head of the queue alone, and the
// head moves on only when its owner holds the lock.
unsafe impl<O: PvLockOps> RawLock for PvHybridLock<O> {
    const PROTOCOL: &'static str = "pv-hybrid";

    #[inline]
    fn lock(&self) {
        if !self.try_lock() {
            self.wait();
        }
    }

    #[inline]
    fn try_lock(&self) -> bool {
        self.take() == FREE
    }

    fn try_lock_for(&self, time: Duration) -> bool {
        patience::poll(&self.ops, time, || self.try_lock())
    }

    #[inline]
    unsafe fn unlock(&self) {
        let ops = self.ops;
        let head = self.words.head.load(Ordering::Relaxed);
        let to = if head & STARVING == 0 { FREE } else { HANDED_OVER };
        let touch = || self.words.tail.load(Ordering::Relaxed);
        parking::release(&ops, self.want(head), || self.words.state.store(to, Ordering::Release), touch);
    }

    fn is_locked(&self) -> bool {
        self.words.state.load(Ordering::Relaxed) != FREE
    }

    fn is_contended(&self) -> bool {
        self.words.tail.load(Ordering::Relaxed) != self.words.head.load(Ordering::Relaxed) & !STARVING
    }
}
