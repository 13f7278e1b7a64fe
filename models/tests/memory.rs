//! The unsafe parts on real threads, small enough for Miri, AddressSanitizer and valgrind: who touches what, and when.
#![cfg(not(any(loom, shuttle)))]
#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use lock_models::ops::Park;
#[cfg(not(miri))]
use lock_models::ops::{EventChannel, Futex, Halt};
use lock_models::{Lock, PvHybridLock, PvTicketLock, PvTicketLock4_0, RawLock, XenByteLock2_6_27};

const TURNS: usize = if cfg!(miri) { 8 } else { 300 };
const THREADS: usize = 3;

/// The data is a box that each holder replaces: a holder too many frees what another reads.
fn guards<L: RawLock + 'static>(lock: L) {
    let shared = Arc::new(Lock::with(lock, Box::new(0_usize)));
    let work = |shared: Arc<Lock<Box<usize>, L>>| {
        for _ in 0..TURNS {
            let mut data = shared.lock();
            let next = Box::new(**data + 1);
            *data = next;
        }
    };
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || work(shared))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(**shared.lock(), TURNS * THREADS);
}

/// Whoever acquires last frees the lock at once, while the one before is still on its way out of `unlock`.
fn is_freed_by_the_last<L: RawLock + 'static>(new: impl Fn() -> L) {
    struct Shared<L> {
        lock: L,
        served: AtomicU32,
    }
    for _ in 0..TURNS {
        let shared = Box::into_raw(Box::new(Shared { lock: new(), served: AtomicU32::new(0) })).expose_provenance();
        let acquire = move || {
            let shared: *mut Shared<L> = std::ptr::with_exposed_provenance_mut(shared);
            // Raw all the way: a reference would have to stay valid until the end of the function that has it.
            // SAFETY: it is freed by the last one who acquires, and this one has not acquired yet.
            let last = unsafe {
                (*shared).lock.lock();
                (*shared).served.fetch_add(1, Ordering::Relaxed) + 1 == THREADS as u32
            };
            // SAFETY: it was acquired; the next owner may free it from the releasing store on.
            unsafe { (*shared).lock.unlock() };
            if last {
                // SAFETY: all others have acquired and released.
                drop(unsafe { Box::from_raw(shared) });
            }
        };
        let threads: Vec<_> = (0..THREADS).map(|_| thread::spawn(acquire)).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

#[test]
fn the_data_has_one_owner_at_a_time() {
    guards(PvTicketLock::with_ops(Park));
    guards(PvHybridLock::with_ops(Park));
    guards(PvTicketLock4_0::with_ops(Park));
    guards(XenByteLock2_6_27::with_ops(Park));
}

#[cfg(not(miri))]
#[test]
fn the_data_has_one_owner_at_a_time_whatever_wakes() {
    guards(PvTicketLock::with_ops(Futex));
    guards(PvHybridLock::with_ops(Futex));
    guards(PvTicketLock::with_ops(EventChannel));
    guards(PvHybridLock::with_ops(Halt));
}

// Miri has rules for references that even the standard library's own locks cannot keep here (rust-lang/miri#3971).
#[cfg(not(miri))]
#[test]
fn nothing_of_a_lock_is_touched_after_its_release() {
    is_freed_by_the_last(PvTicketLock::new);
    is_freed_by_the_last(PvHybridLock::new);
    is_freed_by_the_last(|| PvTicketLock4_0::with_ops(Futex));
}
