//! What the locks find out of the machine, and when: in a process of its own, for it is found out once.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use pvops::lock::ops::{Futex, PvLockOps};
use pvops::lock::{Clock, PvTicketLock, RawLock};

/// Holds the lock until a second thread is parked behind it, and hands it over: one kick.
fn hand_over(lock: &Arc<PvTicketLock>) {
    let held = lock.acquire();
    let other = {
        let lock = Arc::clone(lock);
        thread::spawn(move || {
            let held = lock.acquire();
            // SAFETY: it was acquired.
            unsafe { lock.release(held) };
        })
    };
    while !lock.is_contended() {
        thread::yield_now();
    }
    // Ten times the longest patience.
    thread::sleep(Duration::from_millis(20));
    // SAFETY: it was acquired.
    unsafe { lock.release(held) };
    other.join().unwrap();
}

#[test]
fn nobody_measures_while_others_wait_behind_it_and_kicks_are_timed() {
    let lock = Arc::new(PvTicketLock::new());
    for _ in 0..100 {
        // SAFETY: it was acquired.
        unsafe { lock.release(lock.acquire()) };
    }
    assert!(!Clock::is_calibrated(), "the fast path measures nothing");
    let guessed = Futex.patience();
    let held = lock.acquire();
    let waits = |lock: &Arc<PvTicketLock>| {
        let lock = Arc::clone(lock);
        thread::spawn(move || lock.try_lock_for(Duration::from_millis(30)))
    };
    let waiters = [waits(&lock), waits(&lock)];
    assert!(waiters.into_iter().all(|waiter| !waiter.join().unwrap()));
    assert!(!Clock::is_calibrated(), "nor does who waits in the queue, spins, sleeps and leaves it");
    // SAFETY: it was acquired.
    unsafe { lock.release(held) };

    for _ in 0..20 {
        hand_over(&lock);
    }
    assert!(Clock::is_calibrated(), "who has kicked does");
    let known = Futex.patience();
    let within = |ticks| (Duration::from_micros(5)..=Duration::from_micros(61)).contains(&Clock::time(ticks));
    if thread::available_parallelism().unwrap().get() == 1 {
        assert_eq!((known.spin, known.first), (0, 0), "nobody else could release it meanwhile");
    } else {
        assert!(within(known.first), "{known:?}");
        assert_eq!(known.yielding, 2 * known.first);
    }
    assert!(guessed.first > 0, "until it is known a process is taken to have more than one CPU");
    eprintln!("a kick takes {:?}", Clock::time(known.first));
}
