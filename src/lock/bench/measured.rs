//! What is measured: our locks and those of others behind one interface, called without indirection.

use super::super::pv_hybrid::PvHybridLock;
use super::super::pv_ticket::PvTicketLock;
use super::super::raw::RawLock;
use super::super::ticket::TicketLock2_6_25;

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
                let held = RawLock::acquire(self);
                let result = section();
                // SAFETY: it was acquired above, and a section does not unwind.
                unsafe { self.release(held) };
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
