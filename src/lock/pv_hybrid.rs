//! `pv-hybrid`: a byte that is stolen, a ticket queue behind it, and a direct hand-over to who starves.

use core::cell::Cell;
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

const FREE: u32 = 0;
const HELD: u32 = 1;
const HANDED_OVER: u32 = 2;

const STARVING: u32 = 1;
/// From one ticket to the next: the bit below is free.
const STEP: u32 = 2;

/// A lock that prefers who runs to who came first, within limits: throughput of a stealing lock, waits of a queue.
///
/// A free lock is taken by whoever finds it free. Who does not get it within its patience takes a ticket and parks. The
/// head of the queue, kicked by the next release, competes with those who run; if it does not get the lock within its
/// patience, or has waited for long before, it *starves*: the next release hands the lock to it and to nobody else.
///
/// Who has to wait first asks whether it has had its turn of the CPU ([`PvLockOps::take_turns`]), and if so lets another
/// thread run: a moment later it might hold the lock when the scheduler takes the CPU away. So threads that share a lock
/// take turns of half a millisecond, shorter than a time slice, and none is preempted as the holder.
///
/// A release loads the head, in the line that it writes, and whether anybody has waited (then a slot too). Nothing that the
/// holder kept could stand for the head: who is first in the queue, and whether it starves, changes while the lock is held.
/// Nor could the slot alone, which other locks share, nor a flag in the word that is stored to: a plain store would lose it,
/// and a locked instruction costs more than the load.
///
/// No memory of the lock is touched after the releasing store. Whoever leaves the queue before its turn leaves its ticket,
/// and if it was the head, the wish to be handed the lock: the release that would hand it over passes on. `fork` as for
/// [`PvTicketLock`](super::PvTicketLock).
pub struct PvHybridLock<O = ops::Default> {
    words: LockMemory<Words>,
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

default_backend!(PvHybridLock);

impl<O> PvHybridLock<O> {
    const_fn! {
        /// A free lock whose queue gives this ticket next, modulo 2³¹: to see the tickets wrap.
        pub fn at(ticket: u32, ops: O) -> Self {
            let ticket = ticket.wrapping_mul(STEP);
            PvHybridLock {
                words: LockMemory::new(Words {
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
}

impl<O: PvLockOps> PvHybridLock<O> {
    /// Waits for the lock, first outside the queue and then in it. False: the limit was over.
    #[cold]
    #[inline(never)]
    fn wait<L: Limit>(&self, limit: &mut L) -> bool {
        self.ops.take_turns();
        let mut waiting = Waiting::begin(self.ops.patience());
        let stolen = loop {
            if !waiting.turn(&self.ops) {
                break false;
            }
            if self.words.state.load(Ordering::Relaxed) == FREE && self.try_lock() {
                break true;
            }
            if limit.is_over(false) {
                return false;
            }
        };
        let has_lock = stolen || {
            let ticket = self.words.tail.fetch_add(STEP, Ordering::AcqRel);
            self.queue(ticket, &mut waiting, limit)
        };
        if let Some(counters) = self.ops.counters() {
            counters.slow_path(waiting.spins);
        }
        has_lock
    }

    fn queue<L: Limit>(&self, ticket: u32, waiting: &mut Waiting, limit: &mut L) -> bool {
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
        let mut slept = false;
        loop {
            if is_head() && self.compete(&mut turn, found.take(), waiting) {
                break;
            }
            if limit.is_over(core::mem::take(&mut slept)) {
                match self.leave(&mut turn) {
                    Leaving::Gone => return false,
                    Leaving::Turn => break,
                    Leaving::Stays => self.ops.nap(Duration::from_micros(100)),
                }
            }
            slept = true;
            if !self.ops.blocks() {
                super::sync::relax();
            } else if !parking::wait(&self.ops, self.want(ticket), limit.longest_sleep(), look) {
                found.set(None);
            }
        }
        self.serve_next(ticket);
        true
    }

    /// The holder gives up the head of the queue: the next one has it, if its waiter has not left.
    fn serve_next(&self, mut ticket: u32) {
        loop {
            ticket = ticket.wrapping_add(STEP);
            // The ticket moves on before the release does, and the releaser kicks whom it names.
            self.words.head.store(ticket, Ordering::Release);
            #[cfg(feature = "std")]
            if parking::has_left(&self.ops, self.want(ticket)) {
                continue;
            }
            return;
        }
    }

    /// Leaves the queue, unless it can have the lock. The head asks to be handed the lock before it leaves: then the
    /// release that does so finds that it has left, and is the holder that serves the next.
    #[cold]
    fn leave(&self, turn: &mut Turn) -> Leaving {
        let words = &*self.words;
        let (ticket, last) = (turn.ticket, turn.ticket.wrapping_add(STEP));
        // Nobody is behind it, and no release has looked whether it starves: the ticket is given again.
        if !turn.starving && words.tail.compare_exchange(last, ticket, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            return Leaving::Gone;
        }
        loop {
            let starving = turn.starving;
            let can_go_on = || {
                let is_head = words.head.load(Ordering::Acquire) & !STARVING == ticket;
                is_head && (!starving || words.state.load(Ordering::Acquire) != HELD)
            };
            match parking::leave(&self.ops, self.want(ticket), can_go_on) {
                Leaving::Turn if !starving => self.starve(turn),
                Leaving::Turn => match self.take() {
                    FREE => return Leaving::Turn,
                    HANDED_OVER => {
                        words.state.store(HELD, Ordering::Relaxed);
                        return Leaving::Turn;
                    }
                    _ => {}
                },
                gone_or_stays => return gone_or_stays,
            }
        }
    }

    /// Who released the lock, or handed it over, with this ticket at the head, when its waiter had left: takes the lock,
    /// unless somebody else has.
    fn take_for(&self, ticket: u32) -> bool {
        let words = &*self.words;
        let takes = |from| words.state.compare_exchange(from, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok();
        words.head.load(Ordering::Acquire) & !STARVING == ticket && (takes(FREE) || takes(HANDED_OVER))
    }

    /// Waits in the queue, unless that is so long that tickets might run out: of those that left, each is a ticket more.
    fn lock_until<L: Limit>(&self, limit: &mut L) -> bool {
        const LONGEST: u32 = STEP << 16;
        let head = self.words.head.load(Ordering::Relaxed) & !STARVING;
        let queue = self.words.tail.load(Ordering::Relaxed).wrapping_sub(head);
        if cfg!(not(feature = "std")) || queue > LONGEST {
            return patience::poll(&self.ops, limit, || self.try_lock());
        }
        self.wait(limit)
    }

    /// Frees the lock or hands it over, as the head's word says, and says what to look at in the slot of the head.
    #[inline(always)]
    fn release(&self, ops: &O, head: u32) -> u32 {
        let to = if head & STARVING == 0 { FREE } else { HANDED_OVER };
        let store = || self.words.state.store(to, Ordering::Release);
        parking::release(ops, self.want(head), store, || self.words.tail.load(Ordering::Relaxed))
    }

    /// Kicks the head of the queue; if that has left, serves the next.
    #[cold]
    #[inline(never)]
    fn kick(&self, ops: O, mut head: u32) {
        while parking::kick(ops, self.want(head), || self.take_for(head & !STARVING)) {
            self.serve_next(head & !STARVING);
            head = self.words.head.load(Ordering::Relaxed);
            if self.release(&ops, head) == 0 {
                return;
            }
        }
    }

    /// Makes it free, whoever holds it and whoever waits. Tickets of those who left stay noted: none is given again.
    ///
    /// # Safety
    /// Nobody else uses it or ever will on the strength of a ticket: as in the child of a fork.
    pub unsafe fn set_free(&self) {
        self.words.head.store(self.words.tail.load(Ordering::Relaxed), Ordering::Relaxed);
        self.words.state.store(FREE, Ordering::Release);
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
                // Its patience is over: the next release hands the lock to it.
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

impl<O> PvHybridLock<O> {
    /// Takes the tickets of waiters that left its queue out of the set.
    fn forget(&self) {
        #[cfg(all(feature = "std", not(any(loom, shuttle))))]
        Left::of_process().forget(self.words.address());
    }
}

impl<O> Drop for PvHybridLock<O> {
    fn drop(&mut self) {
        // Held, with a queue: waiters may have left.
        if self.words.state.load(Ordering::Relaxed) != FREE {
            self.forget();
        }
    }
}

// SAFETY: `FREE` becomes `HELD` by one cmpxchg; `HANDED_OVER` becomes `HELD` by the head of the queue alone, and the
// head moves on only when its owner holds the lock.
unsafe impl<O: PvLockOps> RawLock for PvHybridLock<O> {
    const PROTOCOL: &'static str = "pv-hybrid";
    type Held = ();

    #[inline]
    fn lock(&self) {
        if !self.try_lock() {
            self.wait(&mut Never);
        }
    }

    #[inline]
    fn try_lock(&self) -> bool {
        self.take() == FREE
    }

    fn try_lock_for(&self, time: Duration) -> bool {
        self.try_lock() || !time.is_zero() && self.lock_until(&mut Until::new(Some(time), None))
    }

    fn lock_unless(&self, time: Option<Duration>, leave: &mut Leave<'_>) -> bool {
        self.try_lock() || self.lock_until(&mut Until::new(time, Some(leave)))
    }

    #[inline]
    fn held(&self) {}

    #[inline]
    unsafe fn unlock(&self) {
        let ops = self.ops;
        let head = self.words.head.load(Ordering::Relaxed);
        if self.release(&ops, head) != 0 {
            self.kick(ops, head);
        }
    }

    fn is_locked(&self) -> bool {
        self.words.state.load(Ordering::Relaxed) != FREE
    }

    fn is_contended(&self) -> bool {
        self.words.tail.load(Ordering::Relaxed) != self.words.head.load(Ordering::Relaxed) & !STARVING
    }
}
