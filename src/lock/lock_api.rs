//! `lock_api`: our locks wherever `parking_lot`'s or `spin`'s may stand.
//!
//! `RawMutex` cannot carry a ticket from acquire to release; the release reads it again from the head, at no cost.
#![cfg(not(any(loom, shuttle)))]

use core::time::Duration;
use std::time::Instant;

use ::lock_api::{GuardNoSend, RawMutex, RawMutexFair, RawMutexTimed};

use super::ops::Default as DefaultOps;
use super::pv_hybrid::PvHybridLock;
use super::pv_ticket::PvTicketLock;
use super::raw::RawLock;
use super::ticket::TicketLock2_6_25;

#[cfg(target_os = "linux")]
const OPS: DefaultOps = super::ops::Futex;
#[cfg(not(target_os = "linux"))]
const OPS: DefaultOps = super::ops::Park;

macro_rules! raw_mutex {
    ($lock:ty, $init:expr) => {
        // SAFETY: what RawLock promises is what RawMutex asks for.
        unsafe impl RawMutex for $lock {
            #[allow(clippy::declare_interior_mutable_const)]
            const INIT: Self = $init;
            type GuardMarker = GuardNoSend;

            #[inline]
            fn lock(&self) {
                RawLock::lock(self);
            }

            #[inline]
            fn try_lock(&self) -> bool {
                RawLock::try_lock(self)
            }

            #[inline]
            unsafe fn unlock(&self) {
                // SAFETY: the caller holds the lock.
                unsafe { RawLock::unlock(self) };
            }

            #[inline]
            fn is_locked(&self) -> bool {
                RawLock::is_locked(self)
            }
        }

        // SAFETY: a true result is an acquisition.
        unsafe impl RawMutexTimed for $lock {
            type Duration = Duration;
            type Instant = Instant;

            fn try_lock_for(&self, timeout: Duration) -> bool {
                RawLock::try_lock_for(self, timeout)
            }

            fn try_lock_until(&self, timeout: Instant) -> bool {
                RawLock::try_lock_for(self, timeout.saturating_duration_since(Instant::now()))
            }
        }
    };
}

raw_mutex!(PvTicketLock, PvTicketLock::with_ops(OPS));
raw_mutex!(PvHybridLock, PvHybridLock::with_ops(OPS));
raw_mutex!(TicketLock2_6_25, TicketLock2_6_25::new());

// SAFETY: every release of a ticket lock is fair.
unsafe impl RawMutexFair for PvTicketLock {
    #[inline]
    unsafe fn unlock_fair(&self) {
        // SAFETY: the caller holds the lock.
        unsafe { RawLock::unlock(self) };
    }
}

// SAFETY: every release of a ticket lock is fair.
unsafe impl RawMutexFair for TicketLock2_6_25 {
    #[inline]
    unsafe fn unlock_fair(&self) {
        // SAFETY: the caller holds the lock.
        unsafe { RawLock::unlock(self) };
    }
}
