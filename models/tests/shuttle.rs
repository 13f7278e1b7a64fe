//! Random schedules of more threads than can be searched: `--cfg shuttle`.
//!
//! shuttle knows no weak memory: what it samples is the interleavings. The fences are loom's business.
#![cfg(shuttle)]
#![allow(missing_docs, clippy::unwrap_used)]

use lock_models::ops::{Model, Table};
use lock_models::{PvHybridLock, PvTicketLock, PvTicketLock4_0, RawLock};
use shuttle::sync::Arc;
use shuttle::sync::atomic::{AtomicU32, Ordering};

fn sampled<L: RawLock + 'static>(new: fn(Model) -> L, threads: u32, slots: u32) {
    let model = move || {
        let table = Table::with_slots(slots, false);
        // SAFETY: the threads that use the lock too are joined below.
        let shared = Arc::new((new(unsafe { table.ops() }), AtomicU32::new(0)));
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                let shared = Arc::clone(&shared);
                shuttle::thread::spawn(move || {
                    for _ in 0..3 {
                        shared.0.lock();
                        let seen = shared.1.load(Ordering::Relaxed);
                        shuttle::thread::yield_now();
                        shared.1.store(seen + 1, Ordering::Relaxed);
                        // SAFETY: it was acquired.
                        unsafe { shared.0.unlock() };
                    }
                })
            })
            .collect();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        assert_eq!(shared.1.load(Ordering::Relaxed), 3 * threads);
    };
    shuttle::check_random(model, 150);
    shuttle::check_pct(model, 150, 3);
}

#[test]
fn four_to_eight_threads_exclude_and_are_all_served() {
    for (threads, slots) in [(4, 2), (6, 4), (8, 3)] {
        sampled(PvTicketLock::with_ops, threads, slots);
        sampled(PvHybridLock::with_ops, threads, slots);
        sampled(PvTicketLock4_0::with_ops, threads, slots);
    }
}
