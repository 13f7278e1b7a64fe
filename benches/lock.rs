//! An uncontended acquisition and release, ours beside those that people use, and the machine's limit: one locked
//! instruction and a store. What happens under contention is measured by `pvops lock bench`.
//!
//! Run with `--features peers`. Noise only adds: compare the lower ends of the intervals.
#![allow(missing_docs)]

#[cfg(target_os = "linux")]
use std::{hint::black_box, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};

#[cfg(target_os = "linux")]
fn uncontended(c: &mut Criterion) {
    use pvops::lock::PvTicketLock;
    use pvops::lock::bench::{NAMES, contender, raw};

    /// So many pairs in one go, in batches that the counter of pairs can hold.
    fn time(pairs: u64, measure: impl Fn(u32) -> f64) -> Duration {
        let ns = measure(u32::try_from(pairs).unwrap_or(u32::MAX));
        Duration::from_nanos((ns * pairs as f64) as u64)
    }

    // With a second thread the locks of glibc and others cannot take the short cuts of a single one.
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let second = std::thread::spawn(move || stopped.recv());
    let mut group = c.benchmark_group("lock and unlock, uncontended");
    group.bench_function("limit: lock xadd and a store", |b| b.iter_custom(|pairs| time(pairs, |n| raw(n).ns)));
    for lock in NAMES.into_iter().filter_map(contender) {
        group.bench_function(lock.name, |b| b.iter_custom(|pairs| time(pairs, |n| (lock.pair)(n).ns)));
    }
    // `lock_api` keeps no ticket from acquire to release: it is loaded from the head before the slot is.
    let loads_the_head = lock_api::Mutex::<PvTicketLock, ()>::new(());
    group.bench_function("pvops::PvTicketLock, by lock_api", |b| b.iter(|| drop(black_box(&loads_the_head).lock())));
    group.finish();
    drop(stop);
    let _ = second.join();
}

#[cfg(not(target_os = "linux"))]
fn uncontended(_: &mut Criterion) {}

criterion_group!(benches, uncontended);
criterion_main!(benches);
