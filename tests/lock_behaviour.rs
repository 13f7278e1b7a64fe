//! What the locks do, on real threads: exclude, wrap, give up, survive panics, fork and seccomp.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used)]

mod child_support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use pvops::lock::ops::{Chosen, Futex, Native, PvLockOps};
use pvops::lock::{
    Counters, Lock, MoreWaitersThanTickets, PvHybridLock, PvTicketLock, PvTicketLock3_12, PvTicketLock4_0, RawLock,
    SmallTicketLock, TicketLock2_6_25, Want, XenByteLock2_6_27,
};

use child_support::in_child;

fn excludes<L: RawLock + 'static>(lock: L, threads: u64, each: u64) {
    let shared = Arc::new(Lock::with(lock, 0_u64));
    let workers: Vec<_> = (0..threads)
        .map(|_| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || (0..each).for_each(|_| *shared.lock() += 1))
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    assert_eq!(*shared.lock(), threads * each, "{}", L::PROTOCOL);
    assert!(!shared.is_locked() && !shared.is_contended());
}

#[test]
fn every_protocol_excludes() {
    excludes(TicketLock2_6_25::new(), 2, 500);
    excludes(SmallTicketLock::for_threads(2).unwrap(), 2, 500);
    excludes(XenByteLock2_6_27::with_ops(Futex), 4, 5_000);
    excludes(PvTicketLock3_12::with_ops(Futex), 4, 5_000);
    excludes(PvTicketLock4_0::with_ops(Futex), 4, 5_000);
    excludes(PvTicketLock::new(), 8, 5_000);
    excludes(PvHybridLock::new(), 8, 50_000);
    excludes(PvTicketLock::with_ops(Native), 2, 500);
    excludes(PvHybridLock::with_ops(Native), 2, 500);
}

#[test]
fn every_backend_wakes_whom_it_blocked() {
    for name in Chosen::NAMES.iter().filter(|name| **name != "native") {
        let ops = Chosen::named(name).unwrap();
        excludes(PvTicketLock::with_ops(ops), 6, 2_000);
        excludes(PvHybridLock::with_ops(ops), 6, 2_000);
        excludes(XenByteLock2_6_27::with_ops(ops), 6, 2_000);
        excludes(PvTicketLock4_0::with_ops(ops), 6, 2_000);
    }
}

/// A waiter is not lost where another lock, of another backend, would look for its own at the same place.
#[test]
fn no_backend_takes_the_kick_of_another() {
    static COUNTERS: Counters = Counters::new();
    for name in Chosen::NAMES.iter().filter(|name| **name != "native") {
        let lock = Arc::new(PvTicketLock::with_ops(Chosen::named(name).unwrap().counting(&COUNTERS)));
        lock.lock();
        let (waits, waiter) = (COUNTERS.counts().waits, Arc::clone(&lock));
        let waiter = thread::spawn(move || {
            waiter.lock();
            // SAFETY: it was acquired.
            unsafe { waiter.unlock() };
        });
        while COUNTERS.counts().waits == waits {
            thread::yield_now();
        }
        for other in Chosen::NAMES {
            // Of so many tickets in a row one has the waiter's slot in any table of as many.
            for ticket in 0..1024 {
                let other = PvTicketLock::at(ticket, Chosen::named(other).unwrap());
                other.lock();
                // SAFETY: it was acquired.
                unsafe { other.unlock() };
            }
        }
        // SAFETY: it was acquired above.
        unsafe { lock.unlock() };
        waiter.join().unwrap();
    }
}

/// Many locks at once: their waiters share the slots of the one table.
#[test]
fn locks_that_share_slots_do_not_disturb_each_other() {
    let locks: Arc<Vec<Lock<u64>>> = Arc::new((0..3000).map(|_| Lock::new(0)).collect());
    let workers: Vec<_> = (0..6_usize)
        .map(|me| {
            let locks = Arc::clone(&locks);
            thread::spawn(move || (0..60_000_usize).for_each(|i| *locks[(i * (me + 1)) % 3000].lock() += 1))
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    assert_eq!(locks.iter().map(|lock| *lock.lock()).sum::<u64>(), 360_000);
}

#[test]
fn tickets_wrap() {
    // Contended across the wrap: waiters' tickets are small, the head's is large.
    excludes(PvTicketLock::at(u32::MAX - 3_000, Futex), 4, 5_000);
    excludes(PvHybridLock::at(u32::MAX - 2, Futex), 6, 20_000);
    // 32768 tickets with a flag beside them: around more than once.
    excludes(PvTicketLock4_0::with_ops(Futex), 4, 20_000);
    excludes(PvTicketLock3_12::with_ops(Futex), 4, 20_000);
}

#[test]
fn the_smallest_word_takes_as_many_as_it_has_tickets_and_refuses_one_more() {
    let refusal = MoreWaitersThanTickets { threads: 256, tickets: 255 };
    assert!(SmallTicketLock::for_threads(255).is_ok());
    assert_eq!(SmallTicketLock::for_threads(256).err(), Some(refusal));
    assert_eq!(refusal.to_string(), "more waiters than tickets: 256 threads, but the word has 255");

    for first in [0, 1, 128, 255] {
        let lock = SmallTicketLock::at(first);
        let tickets: Vec<u8> = (0..255).map(|_| lock.take().unwrap()).collect();
        assert_eq!(lock.take(), Err(refusal), "the next would have read its own ticket in the head");
        for (n, ticket) in tickets.into_iter().enumerate() {
            assert_eq!(ticket, first.wrapping_add(n as u8));
            lock.wait(ticket);
            // SAFETY: the head shows this ticket: its owner holds the lock.
            unsafe { lock.unlock() };
        }
        assert!(!lock.is_locked());
        assert!(lock.take().is_ok());
    }
}

#[test]
#[should_panic(expected = "more waiters than tickets: 256 threads, but the word has 255")]
fn locking_the_smallest_word_once_too_often_panics() {
    let lock = SmallTicketLock::at(7);
    (0..255).for_each(|_| assert!(lock.take().is_ok()));
    lock.lock();
}

fn gives_up<L: RawLock>(lock: L) {
    lock.lock();
    assert!(lock.is_locked() && !lock.try_lock());
    let start = Instant::now();
    assert!(!lock.try_lock_for(Duration::from_millis(30)));
    assert!(start.elapsed() >= Duration::from_millis(30), "{}", L::PROTOCOL);
    assert!(!lock.try_lock_for(Duration::ZERO));
    // SAFETY: it was acquired above.
    unsafe { lock.unlock() };
    assert!(lock.try_lock_for(Duration::MAX));
    // SAFETY: it was acquired.
    unsafe { lock.unlock() };
}

#[test]
fn a_timeout_gives_up_and_leaves_no_trace() {
    gives_up(TicketLock2_6_25::new());
    gives_up(SmallTicketLock::at(255));
    gives_up(XenByteLock2_6_27::with_ops(Futex));
    gives_up(PvTicketLock3_12::with_ops(Futex));
    gives_up(PvTicketLock4_0::with_ops(Futex));
    gives_up(PvTicketLock::new());
    gives_up(PvHybridLock::new());
}

#[test]
fn contention_is_seen() {
    let lock = Arc::new(PvTicketLock::new());
    lock.lock();
    assert!(!lock.is_contended());
    let other = Arc::clone(&lock);
    let waiter = thread::spawn(move || {
        other.lock();
        // SAFETY: it was acquired.
        unsafe { other.unlock() };
    });
    while !lock.is_contended() {
        thread::yield_now();
    }
    // SAFETY: it was acquired above.
    unsafe { lock.unlock() };
    waiter.join().unwrap();
}

#[test]
fn a_panic_with_a_guard_releases_and_does_not_poison() {
    let lock = Arc::new(Lock::<u32>::new(1));
    let theirs = Arc::clone(&lock);
    let died = thread::spawn(move || {
        let mut data = theirs.lock();
        *data = 2;
        panic!("with the guard");
    });
    assert!(died.join().is_err());
    assert_eq!(*lock.try_lock().expect("released while unwinding"), 2);
}

#[test]
fn it_stands_wherever_lock_api_stands() {
    static PAGES: lock_api::Mutex<PvTicketLock, u32> = lock_api::Mutex::new(0);
    *PAGES.lock() += 1;
    assert!(PAGES.try_lock_for(Duration::from_millis(1)).is_some());
    lock_api::MutexGuard::unlock_fair(PAGES.lock());
    let other: lock_api::Mutex<PvHybridLock, u32> = lock_api::Mutex::new(0);
    *other.lock() += 1;
    assert_eq!((*PAGES.lock(), other.into_inner()), (1, 1));
}

/// A waiter of the hybrid has the lock in bounded time, whoever steals it meanwhile.
#[test]
fn who_starves_is_handed_the_lock() {
    let lock = Arc::new(Lock::<u64, PvHybridLock>::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let thieves: Vec<_> = (0..2)
        .map(|_| {
            let (lock, stop) = (Arc::clone(&lock), Arc::clone(&stop));
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    *lock.lock() += 1;
                }
            })
        })
        .collect();
    // No time is asserted: without the hand-over this would not end, for the lock is never seen free for long.
    (0..200).for_each(|_| drop(lock.lock()));
    stop.store(true, Ordering::Relaxed);
    thieves.into_iter().for_each(|thief| thief.join().unwrap());
}

#[test]
fn a_child_finds_a_held_lock_held_and_can_use_the_others() {
    let (held, free) = (PvTicketLock::new(), PvTicketLock::new());
    held.lock();
    assert!(in_child(|| {
        let refused = !held.try_lock_for(Duration::from_millis(20));
        // The registration for membarrier survives fork: the child's own threads block and wake.
        excludes(PvTicketLock::new(), 3, 2_000);
        free.lock();
        refused && free.is_locked()
    }));
    assert!(held.is_locked() && !free.is_locked());
    // SAFETY: it was acquired above.
    unsafe { held.unlock() };
}

#[test]
fn a_child_does_not_inherit_the_set_of_those_who_left_locked() {
    let slot = pvops::lock::AtomicU32::new(0);
    let want = |ticket| Want { lock: 0x5000_0000, ticket };
    let (locked, forks) = (AtomicBool::new(false), AtomicBool::new(false));
    Futex.left().insert(&slot, want(1));
    let leaves = || Futex.left().insert(&slot, want(2)).1 != 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            // The set is locked while it is asked whether the ticket may be taken.
            Futex.left().take(&slot, want(1), || {
                locked.store(true, Ordering::Release);
                while !forks.load(Ordering::Acquire) {
                    thread::yield_now();
                }
                thread::sleep(Duration::from_millis(100));
                false
            });
        });
        while !locked.load(Ordering::Acquire) {
            thread::yield_now();
        }
        forks.store(true, Ordering::Release);
        assert!(in_child(leaves), "whoever leaves a queue in the child waits for ever");
    });
    assert!(leaves());
    Futex.left().forget(0x5000_0000);
}

/// Three backends list whom a kicker may wake. Kicks that nobody waits for have a list locked most of the time.
#[test]
fn a_child_inherits_no_list_of_virtual_cpus_locked_and_none_of_its_parent() {
    for name in ["park", "event-channel", "halt"] {
        let ops = Chosen::named(name).unwrap();
        let (lock, ends) = (PvTicketLock::with_ops(ops), AtomicBool::new(false));
        let (nobody, want) = (pvops::lock::AtomicU32::new(0), Want { lock: 0x6000_0000, ticket: 1 });
        let listed = Barrier::new(50 + 1);
        thread::scope(|scope| {
            lock.lock();
            for _ in 0..50 {
                scope.spawn(|| {
                    lock.lock();
                    // SAFETY: acquired in the line before.
                    unsafe { lock.unlock() };
                    listed.wait();
                    listed.wait();
                });
            }
            thread::sleep(Duration::from_millis(100)); // they block, and are on the list
            // SAFETY: acquired above.
            unsafe { lock.unlock() };
            listed.wait();
            scope.spawn(|| {
                while !ends.load(Ordering::Relaxed) {
                    ops.unlock_kick(&nobody, want);
                }
            });
            let uses_it = || {
                ops.lock_spinning_for(&nobody, 0, want, Duration::from_millis(1)); // puts itself on the list
                excludes(PvTicketLock::with_ops(ops), 3, 100);
                true
            };
            let right = (0..20).all(|_| in_child(uses_it));
            ends.store(true, Ordering::Relaxed);
            listed.wait();
            assert!(right, "{name}");
        });
    }
}

/// Makes `membarrier` fail with ENOSYS in this process from now on.
fn refuse_membarrier() -> bool {
    let filter = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut program = [
        filter(0x20, 0, 0, 0), // the number of the call
        filter(0x15, 0, 1, libc::SYS_membarrier as u32),
        filter(0x06, 0, 0, 0x0005_0000 | libc::ENOSYS as u32),
        filter(0x06, 0, 0, 0x7fff_0000),
    ];
    let program = libc::sock_fprog { len: 4, filter: program.as_mut_ptr() };
    // SAFETY: the program outlives the call that copies it; the filter holds for this process, which is a child.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && libc::prctl(libc::PR_SET_SECCOMP, 2, &program) == 0
    }
}

#[test]
fn without_membarrier_the_releases_fence() {
    // A process that has not asked for it yet: this test binary, again.
    if std::env::var_os("PVOPS_TEST_NO_MEMBARRIER").is_some() {
        assert!(refuse_membarrier());
        assert!(!pvops::lock::fence::asymmetric());
        excludes(PvTicketLock::new(), 6, 5_000);
        excludes(PvHybridLock::new(), 6, 5_000);
        return;
    }
    let again = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "without_membarrier_the_releases_fence", "--test-threads", "1"])
        .env("PVOPS_TEST_NO_MEMBARRIER", "1")
        .output()
        .unwrap();
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stdout));
}

#[test]
fn a_membarrier_that_is_taken_away_later_costs_sleep_and_nothing_else() {
    let _chosen = PvTicketLock::new();
    assert!(in_child(|| {
        let was_there = pvops::lock::fence::asymmetric();
        assert!(refuse_membarrier());
        excludes(PvTicketLock::new(), 4, 500);
        excludes(PvHybridLock::new(), 4, 500);
        was_there
    }));
}

/// Whoever gets the lock last frees it at once: what the releaser still does must not touch it. For valgrind and the
/// sanitizers, in `models`; here it must merely run.
#[test]
fn the_next_owner_may_free_the_lock() {
    for _ in 0..2_000 {
        let lock: *mut PvTicketLock = Box::into_raw(Box::new(PvTicketLock::new()));
        // SAFETY: it is freed below, by whoever acquires second, when the other one has released.
        let shared: &'static PvTicketLock = unsafe { &*lock };
        shared.lock();
        let last = thread::spawn(move || {
            shared.lock();
            // SAFETY: acquired, and the other's release is what let it.
            unsafe { shared.unlock() };
        });
        // SAFETY: acquired above.
        unsafe { shared.unlock() };
        last.join().unwrap();
        // SAFETY: nobody has it any more.
        drop(unsafe { Box::from_raw(lock) });
    }
}
