//! The locks that take part.

use super::super::{PvHybridLock, PvTicketLock, RawLock, TicketLock2_6_25};
use super::contention::{self, Case, Contention};
use super::uncontended::{self, Pair};

/// A lock to measure: made new for each run, and called without indirection.
pub trait Measured: Sync {
    /// A free one.
    fn free() -> Self;
    /// Runs `section` while it is held.
    fn with<R>(&self, section: impl FnOnce() -> R) -> R;
}

macro_rules! ours {
    ($($lock:ty),*) => { $(
        impl Measured for $lock {
            fn free() -> Self {
                <$lock>::new()
            }

            #[inline(always)]
            fn with<R>(&self, section: impl FnOnce() -> R) -> R {
                self.lock();
                let result = section();
                // SAFETY: it was acquired above, and a section does not unwind.
                unsafe { self.unlock() };
                result
            }
        }
    )* };
}
ours!(PvTicketLock, PvHybridLock, TicketLock2_6_25);

macro_rules! theirs {
    ($($lock:ty: $guard:ident => $lock_it:expr),*) => { $(
        impl Measured for $lock {
            fn free() -> Self {
                <$lock>::new(())
            }

            #[inline(always)]
            fn with<R>(&self, section: impl FnOnce() -> R) -> R {
                let $guard = self;
                let _held = $lock_it;
                section()
            }
        }
    )* };
}
theirs!(
    std::sync::Mutex<()>: lock => lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner),
    parking_lot::Mutex<()>: lock => lock.lock(),
    parking_lot::FairMutex<()>: lock => lock.lock(),
    spin::mutex::TicketMutex<()>: lock => lock.lock(),
    usync::Mutex<()>: lock => lock.lock()
);

/// How to measure one of the locks.
#[derive(Clone, Copy)]
pub struct Contender {
    /// Its Rust path.
    pub name: &'static str,
    /// Measures its uncontended pair.
    pub pair: fn(pairs: u32) -> Pair,
    /// Measures it shared by threads.
    pub contend: fn(&Case) -> Result<Contention, String>,
}

const fn of<L: Measured>(name: &'static str) -> Contender {
    Contender { name, pair: uncontended::measure::<L>, contend: contention::measure::<L> }
}

const ALL: [Contender; 8] = [
    of::<PvTicketLock>("pvops::PvTicketLock"),
    of::<PvHybridLock>("pvops::PvHybridLock"),
    of::<TicketLock2_6_25>("pvops::lock::TicketLock2_6_25"),
    of::<std::sync::Mutex<()>>("std::sync::Mutex"),
    of::<parking_lot::Mutex<()>>("parking_lot::Mutex"),
    of::<parking_lot::FairMutex<()>>("parking_lot::FairMutex"),
    of::<spin::mutex::TicketMutex<()>>("spin::TicketMutex"),
    of::<usync::Mutex<()>>("usync::Mutex"),
];

/// The names of all, ours first.
pub const NAMES: [&str; ALL.len()] = {
    let mut names = [""; ALL.len()];
    let mut i = 0;
    while i < ALL.len() {
        names[i] = ALL[i].name;
        i += 1;
    }
    names
};

/// The lock of this name.
pub fn contender(name: &str) -> Option<Contender> {
    ALL.into_iter().find(|contender| contender.name == name)
}
