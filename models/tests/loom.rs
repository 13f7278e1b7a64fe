//! Every interleaving, by loom, of the code that runs: `--cfg loom`, with `--cfg mutants` for the bugs.
#![cfg(loom)]
#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc as StdArc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lock_models::ops::{Model, Table};
use lock_models::{Leave, PvHybridLock, PvTicketLock, PvTicketLock3_12, PvTicketLock4_0, RawLock, XenByteLock2_6_27};
use loom::cell::UnsafeCell;

/// What a model is: threads (with the first), acquisitions of each, parking slots, preemption bound.
#[derive(Clone, Copy)]
struct Config {
    threads: usize,
    acquisitions: usize,
    slots: u32,
    bound: Option<usize>,
    symmetric: bool,
    asking: bool,
}

const fn config(threads: usize, acquisitions: usize, slots: u32, bound: Option<usize>) -> Config {
    Config { threads, acquisitions, slots, bound, symmetric: false, asking: false }
}

impl Config {
    const fn symmetric(self) -> Config {
        Config { symmetric: true, ..self }
    }

    /// Every waiter asks to be let run at the release.
    const fn asking(self) -> Config {
        Config { asking: true, ..self }
    }
}

trait Modelled: RawLock + 'static {
    fn of(ops: Model) -> Self;
    fn free(&self);
}

macro_rules! modelled {
    ($($lock:ident),*) => { $(
        impl Modelled for $lock<Model> {
            fn of(ops: Model) -> Self { $lock::with_ops(ops) }
            fn free(&self) { self.retire() }
        }
    )* };
}
modelled!(PvTicketLock, PvHybridLock, PvTicketLock3_12, PvTicketLock4_0, XenByteLock2_6_27);

/// What the threads share: the data is only touched by a holder, or loom says so.
struct Shared<L> {
    lock: L,
    data: UnsafeCell<usize>,
    // Dropped after the lock that uses it.
    _table: Box<Table>,
}
// SAFETY: loom reports any two accesses to the data that are not ordered.
unsafe impl<L: RawLock> Sync for Shared<L> {}
// SAFETY: as above.
unsafe impl<L: RawLock> Send for Shared<L> {}

impl<L: Modelled> Shared<L> {
    fn new(config: Config) -> StdArc<Shared<L>> {
        let table = Table::with_slots(config.slots, config.symmetric);
        // SAFETY: it is dropped after the lock.
        let ops = unsafe { table.ops() };
        let ops = if config.asking { ops.asking() } else { ops };
        // Not loom's Arc, whose counting would be more to interleave than the lock itself.
        StdArc::new(Shared { lock: L::of(ops), data: UnsafeCell::new(0), _table: table })
    }

    /// One acquisition; whoever makes the last one of all frees the lock before it leaves.
    fn acquire(&self, all: usize) {
        let held = self.lock.acquire();
        self.have(held, all);
    }

    /// The same, of a waiter that leaves after its first sleep. It may get the lock or not.
    fn try_acquire(&self) {
        if self.lock.lock_unless(None, &mut Leave { leaves: &mut || true, longest_sleep: Some(Duration::ZERO) }) {
            self.have(self.lock.held(), usize::MAX);
        }
    }

    fn have(&self, held: L::Held, all: usize) {
        let mine = self.data.with_mut(|data| {
            // SAFETY: the lock is held, and loom would report another access.
            unsafe {
                *data += 1;
                *data
            }
        });
        // SAFETY: it was acquired, and `held` is of that acquisition.
        unsafe { self.lock.release(held) };
        if mine == all {
            // All others have got the lock and released it before: whatever they still do must not touch it.
            self.lock.free();
        }
    }
}

/// Runs a model to its end, and says in how many executions; an error is what loom found.
fn explore(config: Config, model: impl Fn() + Sync + Send + 'static) -> Result<usize, String> {
    let executions = StdArc::new(AtomicUsize::new(0));
    let counted = StdArc::clone(&executions);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = config.bound;
    // No limit of time or permutations: when check() returns, the search is finished.
    builder.max_duration = None;
    builder.max_permutations = None;
    builder.max_branches = 20_000;
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        builder.check(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            model();
        });
    }));
    let executions = executions.load(Ordering::Relaxed);
    match found {
        Ok(()) => Ok(executions),
        Err(cause) => {
            let text = cause.downcast_ref::<String>().cloned();
            Err(text.or_else(|| cause.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default())
        }
    }
}

fn check<L: Modelled>(config: Config) -> Result<usize, String> {
    let all = config.threads * config.acquisitions;
    explore(config, move || {
        let shared = Shared::<L>::new(config);
        let work = move |shared: &Shared<L>| (0..config.acquisitions).for_each(|_| shared.acquire(all));
        let others: Vec<_> = (1..config.threads)
            .map(|_| {
                let shared = StdArc::clone(&shared);
                loom::thread::spawn(move || work(&shared))
            })
            .collect();
        work(&shared);
        others.into_iter().for_each(|other| other.join().unwrap());
    })
}

#[track_caller]
fn holds<L: Modelled>(configs: &[Config]) {
    for &config in configs {
        let start = std::time::Instant::now();
        let found = check::<L>(config);
        let Config { threads, acquisitions, slots, bound, symmetric, asking } = config;
        eprintln!(
            "{}{}{}: {threads}x{acquisitions}, {slots} slots, bound {bound:?}: {found:?} in {:.1?}",
            L::PROTOCOL,
            if symmetric { ", symmetric" } else { "" },
            if asking { ", asking" } else { "" },
            start.elapsed()
        );
        assert!(found.is_ok_and(|executions| executions > 1));
    }
}

/// One thread stays, the others leave: whoever stays gets the lock, and in the end it is free.
fn check_leaving<L: Modelled>(config: Config) -> Result<usize, String> {
    explore(config, move || {
        let shared = Shared::<L>::new(config);
        let others: Vec<_> = (1..config.threads)
            .map(|other| {
                let shared = StdArc::clone(&shared);
                loom::thread::spawn(move || {
                    (0..config.acquisitions).for_each(|_| match other {
                        1 => shared.try_acquire(),
                        _ => shared.acquire(usize::MAX),
                    });
                })
            })
            .collect();
        (0..config.acquisitions).for_each(|_| shared.acquire(usize::MAX));
        others.into_iter().for_each(|other| other.join().unwrap());
        assert!(shared.lock.try_lock(), "nobody holds it, and nobody can have it");
    })
}

const LEAVING: [Config; 3] = [config(2, 1, 1, None), config(2, 2, 1, Some(2)), config(3, 1, 1, Some(2))];

fn leaves<L: Modelled>() {
    for config in LEAVING {
        let start = std::time::Instant::now();
        for config in [config, config.symmetric()] {
            let found = check_leaving::<L>(config);
            let Config { threads, acquisitions, bound, .. } = config;
            eprintln!(
                "{}, leaving: {threads}x{acquisitions}, bound {bound:?}: {found:?} in {:.1?}",
                L::PROTOCOL,
                start.elapsed()
            );
            assert!(found.is_ok_and(|executions| executions > 1));
        }
    }
}

#[test]
fn who_leaves_the_ticket_lock_holds_nobody_up() {
    leaves::<PvTicketLock<Model>>();
}

#[test]
fn who_leaves_the_hybrid_holds_nobody_up() {
    leaves::<PvHybridLock<Model>>();
}

const SEARCHES: [Config; 6] = [
    config(2, 1, 2, None),
    config(2, 1, 1, None).symmetric(),
    config(2, 2, 1, Some(3)),
    config(3, 1, 1, Some(3)),
    config(3, 1, 2, Some(3)),
    config(3, 2, 2, Some(2)),
];

#[test]
fn the_ticket_lock_excludes_kicks_and_lets_go_whatever_the_order() {
    holds::<PvTicketLock<Model>>(&SEARCHES);
    holds::<PvTicketLock<Model>>(&[config(2, 2, 1, Some(3)).asking(), config(3, 1, 1, Some(2)).asking()]);
}

#[test]
fn the_hybrid_excludes_kicks_and_lets_go_whatever_the_order() {
    holds::<PvHybridLock<Model>>(&SEARCHES);
}

#[test]
fn the_lock_of_4_0_excludes_kicks_and_lets_go_whatever_the_order() {
    holds::<PvTicketLock4_0<Model>>(&[config(2, 1, 2, None), config(2, 2, 1, Some(2)), config(3, 1, 2, Some(2))]);
}

#[test]
fn the_lock_of_3_12_excludes_and_kicks_as_long_as_nobody_frees_it() {
    let config = config(2, 2, 1, Some(2));
    let found = explore(config, move || {
        let table = Table::with_slots(1, false);
        // SAFETY: the thread that uses the lock too is joined below.
        let lock = loom::sync::Arc::new(PvTicketLock3_12::with_ops(unsafe { table.ops() }));
        let other = loom::sync::Arc::clone(&lock);
        let pairs = |lock: &PvTicketLock3_12<Model>| {
            for _ in 0..2 {
                lock.lock();
                // SAFETY: it was acquired.
                unsafe { lock.unlock() };
            }
        };
        let thread = loom::thread::spawn(move || pairs(&other));
        pairs(&lock);
        thread.join().unwrap();
    });
    assert!(found.is_ok_and(|executions| executions > 1));
}

#[test]
fn the_byte_lock_of_2_6_27_excludes_and_kicks_as_long_as_nobody_frees_it() {
    let found = explore(config(3, 1, 1, Some(2)), move || {
        let table = Table::with_slots(1, false);
        // SAFETY: the threads that use the lock too are joined below.
        let lock = loom::sync::Arc::new(XenByteLock2_6_27::with_ops(unsafe { table.ops() }));
        let pair = |lock: &XenByteLock2_6_27<Model>| {
            lock.lock();
            // SAFETY: it was acquired.
            unsafe { lock.unlock() };
        };
        let threads: Vec<_> = (0..2).map(|_| loom::sync::Arc::clone(&lock)).collect();
        let threads: Vec<_> = threads.into_iter().map(|lock| loom::thread::spawn(move || pair(&lock))).collect();
        pair(&lock);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    assert!(found.as_ref().is_ok_and(|&executions| executions > 1), "{found:?}");
}

#[test]
fn tickets_are_served_in_the_order_they_were_given() {
    let found = explore(config(3, 1, 1, Some(2)), || {
        let table = Table::with_slots(1, false);
        // SAFETY: the threads that use the lock too are joined below.
        let lock = loom::sync::Arc::new(PvTicketLock::with_ops(unsafe { table.ops() }));
        let served = loom::sync::Arc::new(loom::sync::atomic::AtomicU32::new(0));
        let pair = move |lock: &PvTicketLock<Model>, served: &loom::sync::atomic::AtomicU32| {
            let ticket = lock.acquire();
            assert_eq!(ticket, served.load(loom::sync::atomic::Ordering::Relaxed), "served out of turn");
            served.store(ticket + 1, loom::sync::atomic::Ordering::Relaxed);
            // SAFETY: it was acquired.
            unsafe { lock.unlock() };
        };
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (lock, served) = (loom::sync::Arc::clone(&lock), loom::sync::Arc::clone(&served));
                loom::thread::spawn(move || pair(&lock, &served))
            })
            .collect();
        pair(&lock, &served);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    assert!(found.as_ref().is_ok_and(|&executions| executions > 1), "{found:?}");
}

/// Two threads that acquire twice, without a bound.
const WITHOUT_BOUND: Config = config(2, 2, 1, None);

/// Three threads that acquire twice, preempted once more than in `SEARCHES`.
const LONGER: Config = config(3, 2, 2, Some(3));

#[test]
#[ignore = "many minutes"]
fn the_ticket_lock_holds_with_three_threads_that_come_back() {
    holds::<PvTicketLock<Model>>(&[LONGER]);
}

#[test]
#[ignore = "many minutes"]
fn the_hybrid_holds_with_three_threads_that_come_back() {
    holds::<PvHybridLock<Model>>(&[LONGER]);
}

#[test]
#[ignore = "a minute"]
fn the_ticket_lock_holds_without_a_bound() {
    holds::<PvTicketLock<Model>>(&[WITHOUT_BOUND]);
}

#[test]
#[ignore = "a quarter of an hour"]
fn the_hybrid_holds_without_a_bound() {
    holds::<PvHybridLock<Model>>(&[WITHOUT_BOUND]);
}

#[cfg(mutants)]
#[path = "loom/mutants.rs"]
mod mutants;
