//! The queue of the ticket lock, on real threads: its order, and who of those that share a CPU spins.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use pvops::lock::ops::{Futex, Place, PvLockOps};
use pvops::lock::{Clock, PvTicketLock, RawLock, Slots, Want};

#[test]
fn tickets_are_served_in_order() {
    let lock = Arc::new(PvTicketLock::new());
    let next = Arc::new(AtomicU32::new(0));
    let workers: Vec<_> = (0..6)
        .map(|_| {
            let (lock, next) = (Arc::clone(&lock), Arc::clone(&next));
            thread::spawn(move || {
                for _ in 0..3_000 {
                    let ticket = lock.acquire();
                    assert_eq!(ticket, next.fetch_add(1, Ordering::Relaxed));
                    // SAFETY: it was acquired.
                    unsafe { lock.unlock() };
                }
            })
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
}

/// Keeps this thread on the CPU where it is.
fn stay() {
    // SAFETY: an all-zero set is an empty one, and the call only reads the set, which outlives it.
    unsafe {
        let mut set: libc::cpu_set_t = core::mem::zeroed();
        libc::CPU_SET(usize::try_from(libc::sched_getcpu()).unwrap(), &mut set);
        assert_eq!(libc::sched_setaffinity(0, size_of_val(&set), &raw const set), 0);
    }
}

fn ticket(lock: usize) -> impl Fn(u32) -> Want {
    move |ticket| Want { lock, ticket }
}

#[test]
fn a_waiter_is_first_on_its_cpu_unless_one_before_it_let_it_run() {
    stay();
    let of = ticket(0x10_0000);
    assert_eq!(Futex.place(of(7), 3, None), Place::First, "nobody is known to wait here");
    Futex.note(of(5));
    assert_eq!(Futex.place(of(7), 3, None), Place::Behind);
    assert_eq!(Futex.place(of(7), 1, None), Place::First, "the lock is past 5");
    assert_eq!(Futex.place(of(4), 3, None), Place::First, "5 is behind 4");
    assert_eq!(Futex.place(of(5 + 1024 + 2), 3, None), Place::First, "the note is of 1024 tickets ago");
    assert_eq!(Futex.place(of(7 + 1024), 1_000, None), Place::Behind, "among so many there is one");
    Futex.note(of(u32::MAX));
    assert_eq!(Futex.place(of(1), 2, None), Place::Behind, "tickets wrap");
}

#[test]
fn who_gets_the_cpu_before_the_one_it_follows_is_out_of_turn() {
    stay();
    let of = ticket(0x20_0000);
    // The round of the CPU follows the queue: 6 ran just before 7 does again.
    let looked = Clock::now();
    thread::sleep(Duration::from_millis(40));
    Futex.note(of(6));
    assert_eq!(Futex.place(of(7), 2, Some(looked)), Place::Behind);
    // It does not: 6 has not run since 7 did, or shortly before that.
    Futex.note(of(6));
    let looked = Clock::now();
    thread::sleep(Duration::from_millis(40));
    assert_eq!(Futex.place(of(7), 2, Some(looked)), Place::OutOfTurn);
    // Somebody on another CPU is between them: nobody here could let 8 run at the right moment.
    assert_eq!(Futex.place(of(8), 3, Some(looked)), Place::Behind);
}

/// Ops whose waiters all find themselves out of turn.
#[derive(Clone, Copy)]
struct OutOfTurn;
static OUT_OF_TURN: Slots = Slots::new();
static WAITING: AtomicBool = AtomicBool::new(false);
thread_local! {
    static YIELDED: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

impl PvLockOps for OutOfTurn {
    fn slot(&self, want: Want) -> &AtomicU32 {
        OUT_OF_TURN.of(want)
    }

    fn lock_spinning(&self, _: &AtomicU32, _: u32, _: Want) {
        WAITING.store(true, Ordering::Release);
        thread::yield_now();
    }

    fn unlock_kick(&self, _: &AtomicU32, _: Want) {}

    fn yield_now(&self) {
        YIELDED.set(YIELDED.get() + 1);
    }

    fn place(&self, _: Want, _: u32, _: Option<u64>) -> Place {
        Place::OutOfTurn
    }
}

#[test]
fn an_unlocker_lets_run_who_asked_for_it() {
    let lock = Arc::new(PvTicketLock::with_ops(OutOfTurn));
    for asked in [false, true] {
        YIELDED.set(0);
        lock.lock();
        let waiter = asked.then(|| {
            let lock = Arc::clone(&lock);
            thread::spawn(move || {
                lock.lock();
                // SAFETY: it was acquired.
                unsafe { lock.unlock() };
            })
        });
        while asked && !WAITING.load(Ordering::Acquire) {
            thread::yield_now();
        }
        // SAFETY: it was acquired above.
        unsafe { lock.unlock() };
        assert_eq!(YIELDED.get(), u32::from(asked));
        waiter.into_iter().for_each(|waiter| waiter.join().unwrap());
    }
}
