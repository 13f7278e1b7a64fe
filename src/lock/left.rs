//! The tickets whose waiters have left the queue: who serves the queue passes over them.
//!
//! A waiter whose time is up cannot give its ticket back when others stand behind it. It puts the ticket into this set,
//! marks the ticket's slot ([`LEFT`]), has a full fence of every CPU, and looks at the lock once more. Whoever releases
//! the lock to the ticket looks at the slot anyway. So either the waiter sees that its turn has come, or the releaser
//! sees the mark; both may, and then the one has the turn that takes the ticket out of the set.
//!
//! From its release on the lock is not the releaser's, and may be freed, and its memory be another lock's. So it takes a
//! ticket out only if the lock is at that ticket (`may`), and looks at the lock with the set locked and the ticket there:
//! dropping a lock takes its tickets out, so a lock with a ticket here lives.
//!
//! The set is locked for some instructions at a time. A child that was forked in just those would inherit it locked, by
//! a thread that it does not have; so a fork waits for the set (`fork`).

use core::ptr;
use std::collections::BTreeMap;
use std::sync::PoisonError;

use super::slots::{LEFT, Want};
use super::sync::{AtomicU32, Mutex, MutexGuard, Ordering};

/// One set for all locks of a backend.
#[derive(Debug, Default)]
pub struct Left(Mutex<Tickets>);

/// The tickets, with their slots, and what each was given when it came.
#[derive(Debug, Default)]
struct Tickets {
    given: BTreeMap<Ticket, u64>,
    last: u64,
}

/// Ordered by the slot, so that those of one slot lie side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Ticket {
    slot: usize,
    lock: usize,
    ticket: u32,
}

/// What a ticket was given when it came: a number is not of the same waiter for ever, since tickets wrap.
#[derive(Debug, Clone, Copy)]
pub struct Given(u64);

impl Ticket {
    fn of(slot: &AtomicU32, want: Want) -> Ticket {
        Ticket { slot: ptr::from_ref(slot).addr(), lock: want.lock, ticket: want.ticket }
    }
}

impl Left {
    /// The set of the backends that are there once in a process.
    #[cfg(not(any(loom, shuttle)))]
    pub fn of_process() -> &'static Left {
        static LEFT: Left = Left(Mutex::new(Tickets { given: BTreeMap::new(), last: 0 }));
        &LEFT
    }

    fn tickets(&self) -> MutexGuard<'_, Tickets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A waiter leaves: puts its ticket in and marks the slot, which held what is returned.
    pub fn insert(&self, slot: &AtomicU32, want: Want) -> (Given, u32) {
        #[cfg(all(target_os = "linux", not(any(loom, shuttle, miri))))]
        fork::HANDLERS.watch();
        let mut tickets = self.tickets();
        tickets.last += 1;
        let given = tickets.last;
        tickets.given.insert(Ticket::of(slot, want), given);
        (Given(given), slot.fetch_or(LEFT, Ordering::AcqRel))
    }

    /// The waiter that put the ticket in takes it out again. False: another has.
    pub fn take_back(&self, slot: &AtomicU32, want: Want, given: Given) -> bool {
        self.take_where(slot, want, |there| there == given.0)
    }

    /// Takes a ticket out, if it is there and `may` says so: a look at the lock, which lives when it is called.
    pub fn take(&self, slot: &AtomicU32, want: Want, may: impl FnOnce() -> bool) -> bool {
        self.take_where(slot, want, |_| may())
    }

    fn take_where(&self, slot: &AtomicU32, want: Want, may: impl FnOnce(u64) -> bool) -> bool {
        let mut tickets = self.tickets();
        let ticket = Ticket::of(slot, want);
        let takes = tickets.given.get(&ticket).is_some_and(|&given| may(given));
        if takes {
            tickets.given.remove(&ticket);
            let first = Ticket { lock: 0, ticket: 0, ..ticket };
            if tickets.given.range(first..).next().is_none_or(|(other, _)| other.slot != ticket.slot) {
                slot.fetch_and(!LEFT, Ordering::AcqRel);
            }
        }
        takes
    }

    /// A lock is dropped: takes its tickets out. The marks stay until the next
    /// unlocker of their slot has looked into the set and found nothing.
    pub fn forget(&self, lock: usize) {
        self.tickets().given.retain(|ticket, _| ticket.lock != lock);
    }
}

/// The set of the process stays locked by the thread that forks while it forks.
#[cfg(all(target_os = "linux", not(any(loom, shuttle, miri))))]
mod fork {
    use core::cell::Cell;
    use core::sync::atomic::AtomicBool;
    use std::sync::MutexGuard;

    use super::super::at_fork::Handlers;
    use super::{Left, Tickets};

    std::thread_local! {
        static HELD: Cell<Option<MutexGuard<'static, Tickets>>> = const { Cell::new(None) };
    }

    extern "C" fn before() {
        let _ = HELD.try_with(|held| held.set(held.take().or_else(|| Some(Left::of_process().tickets()))));
    }

    extern "C" fn after() {
        let _ = HELD.try_with(|held| held.set(None));
    }

    pub static HANDLERS: Handlers = Handlers { before, parent: after, child: after, watched: AtomicBool::new(false) };

    #[cfg(test)]
    mod tests {
        use core::sync::atomic::Ordering;
        use core::time::Duration;
        use std::sync::mpsc;

        use super::{HANDLERS, Left};

        /// Threads that put in their first tickets at the same time register more than once; the set is locked once.
        #[test]
        fn handlers_that_are_registered_twice_lock_the_set_once() {
            for _ in 0..2 {
                HANDLERS.watched.store(false, Ordering::Relaxed);
                HANDLERS.watch();
            }
            let (said, hears) = mpsc::channel();
            std::thread::spawn(move || {
                // SAFETY: the child does nothing but end, without running destructors of the parent's.
                let child = unsafe { libc::fork() };
                if child == 0 {
                    // SAFETY: as above.
                    unsafe { libc::_exit(i32::from(Left::of_process().0.try_lock().is_err())) };
                }
                let mut status = 0;
                // SAFETY: the status outlives the call.
                let _ = said.send((child, unsafe { libc::waitpid(child, &raw mut status, 0) }, status));
            });
            let (child, waited_for, status) = hears.recv_timeout(Duration::from_secs(60)).expect("fork does not hang");
            assert_eq!((waited_for, status), (child, 0));
            assert!(Left::of_process().0.try_lock().is_ok());
        }
    }
}
