//! The queue of the ticket lock, on real threads: its order, and who of those that share a CPU spins.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use pvops::lock::ops::{Chosen, Futex, Place, PvLockOps};
use pvops::lock::{Clock, Leave, Lock, PvHybridLock, PvTicketLock, RawLock, Slots, Want};

#[test]
fn tickets_are_served_in_order() {
    let _turn = NOTES.lock().unwrap_or_else(PoisonError::into_inner);
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

/// All locks share 1024 notes of who waits where: the tests take turns, or one would write over what another reads.
static NOTES: Mutex<()> = Mutex::new(());

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
    let _turn = NOTES.lock().unwrap_or_else(PoisonError::into_inner);
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
    let _turn = NOTES.lock().unwrap_or_else(PoisonError::into_inner);
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
    let _turn = NOTES.lock().unwrap_or_else(PoisonError::into_inner);
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

/// Threads of which some give up after times about as long as their waits are: whoever gets the lock has it alone, and in
/// the end it is free.
fn some_give_up<L: RawLock + 'static>(lock: L) {
    let lock = Arc::new(Lock::with(lock, 0_u64));
    let got = Arc::new(AtomicU32::new(0));
    let workers: Vec<_> = (0..6_u64)
        .map(|me| {
            let (lock, got) = (Arc::clone(&lock), Arc::clone(&got));
            thread::spawn(move || {
                for turn in 0..1_000_u64 {
                    let guard = match me % 2 {
                        0 => Some(lock.lock()),
                        _ => lock.try_lock_for(Duration::from_micros((turn * 37 + me * 11) % 120 + 1)),
                    };
                    if let Some(mut count) = guard {
                        got.fetch_add(1, Ordering::Relaxed);
                        *count += 1;
                        if turn % 64 == 0 {
                            thread::yield_now();
                        }
                    }
                }
            })
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    assert_eq!(*lock.try_lock().unwrap(), u64::from(got.load(Ordering::Relaxed)), "{}", L::PROTOCOL);
}

#[test]
fn those_who_stay_are_served_whoever_leaves() {
    let _turn = NOTES.lock().unwrap_or_else(PoisonError::into_inner);
    for name in Chosen::NAMES.iter().filter(|name| **name != "native") {
        let ops = Chosen::named(name).unwrap();
        some_give_up(PvTicketLock::with_ops(ops));
        some_give_up(PvHybridLock::with_ops(ops));
    }
    // Tickets wrap meanwhile.
    some_give_up(PvTicketLock::at(u32::MAX - 1_000, Futex));
    some_give_up(PvHybridLock::at(u32::MAX / 2 - 100, Futex));
}

/// Waits until so many more than the holder stand in the queue.
fn queued(threads: &AtomicU32, many: u32) {
    while threads.load(Ordering::Acquire) < many {
        thread::yield_now();
    }
    // The last one may be about to take its ticket.
    thread::sleep(Duration::from_millis(20));
}

/// A lock that is dropped while it is held, and whose waiters have left, leaves nothing behind for one at its address.
#[test]
fn a_lock_at_the_address_of_another_is_not_passed_over() {
    let _turn = NOTES.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..3 {
        let lock = Arc::new(PvTicketLock::new());
        let address = Arc::as_ptr(&lock).addr();
        lock.lock();
        let waiting = Arc::new(AtomicU32::new(0));
        let leavers: Vec<_> = (0..3)
            .map(|_| {
                let (lock, waiting) = (Arc::clone(&lock), Arc::clone(&waiting));
                thread::spawn(move || {
                    waiting.fetch_add(1, Ordering::Release);
                    assert!(!lock.try_lock_for(Duration::from_millis(60)));
                })
            })
            .collect();
        queued(&waiting, 3);
        leavers.into_iter().for_each(|leaver| leaver.join().unwrap());
        drop(lock);
        let again = Arc::new(PvTicketLock::new());
        // The allocator gives the same place again, or the test shows nothing this time.
        let same = Arc::as_ptr(&again).addr() == address;
        let mut tickets = Vec::new();
        for _ in 0..6 {
            tickets.push(again.acquire());
            // SAFETY: it was acquired.
            unsafe { again.unlock() };
        }
        assert_eq!(tickets, [0, 1, 2, 3, 4, 5], "{same}");
    }
}

/// Who is told to leave leaves, between one who stays before it and one who stays behind it.
#[test]
fn who_is_told_to_leave_is_passed_over() {
    let _turn = NOTES.lock().unwrap_or_else(PoisonError::into_inner);
    let lock = Arc::new(PvTicketLock::new());
    let order = Arc::new(Mutex::new(Vec::new()));
    lock.lock();
    let waiting = Arc::new(AtomicU32::new(0));
    let told = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..3_u32)
        .map(|me| {
            let (lock, order) = (Arc::clone(&lock), Arc::clone(&order));
            let (mine, told) = (Arc::clone(&waiting), Arc::clone(&told));
            let thread = thread::spawn(move || {
                mine.fetch_add(1, Ordering::Release);
                let mut leaves = || me == 1 && told.load(Ordering::Acquire);
                let longest_sleep = Some(Duration::from_millis(1));
                if lock.lock_unless(None, &mut Leave { leaves: &mut leaves, longest_sleep }) {
                    order.lock().unwrap().push(me);
                    // SAFETY: it was acquired.
                    unsafe { lock.unlock() };
                }
            });
            queued(&waiting, me + 1);
            thread
        })
        .collect();
    told.store(true, Ordering::Release);
    let mut threads = threads.into_iter();
    let first = threads.next().unwrap();
    threads.next().unwrap().join().unwrap();
    // SAFETY: it was acquired above.
    unsafe { lock.unlock() };
    first.join().unwrap();
    threads.for_each(|thread| thread.join().unwrap());
    assert_eq!(*order.lock().unwrap(), [0, 2]);
    assert!(!lock.is_locked());
}
