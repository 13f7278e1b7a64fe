//! The atomics: those of the machine, or those of a model checker that tries every interleaving of them.

#[cfg(all(feature = "std", not(any(loom, shuttle))))]
pub use core::sync::atomic::AtomicU64;
#[cfg(not(any(loom, shuttle)))]
pub use core::sync::atomic::{AtomicU32, Ordering, fence};
#[cfg(loom)]
pub use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(shuttle)]
pub use shuttle::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(loom)]
pub use loom::sync::{Mutex, MutexGuard};
#[cfg(shuttle)]
pub use shuttle::sync::{Mutex, MutexGuard};
#[cfg(all(feature = "std", not(any(loom, shuttle))))]
pub use std::sync::{Mutex, MutexGuard};

/// One turn of a loop that waits for another CPU.
#[inline]
pub fn relax() {
    #[cfg(loom)]
    loom::thread::yield_now();
    #[cfg(shuttle)]
    shuttle::thread::yield_now();
    #[cfg(not(any(loom, shuttle)))]
    core::hint::spin_loop();
}

/// A `const fn` outside the model checkers, whose atomics are born at run time.
macro_rules! const_fn {
    ($(#[$doc:meta])* $vis:vis fn $($rest:tt)*) => {
        #[cfg(not(any(loom, shuttle)))]
        $(#[$doc])*
        $vis const fn $($rest)*
        #[cfg(any(loom, shuttle))]
        $(#[$doc])*
        $vis fn $($rest)*
    };
}
pub(crate) use const_fn;

/// The memory of a lock. Every access goes through `Deref`; under loom each is noted, and freeing the lock
/// (`retire`) conflicts with any that is not ordered before it: an access after the release is caught.
pub struct LockMemory<T> {
    words: T,
    #[cfg(loom)]
    life: loom::cell::UnsafeCell<()>,
}

// SAFETY: the cell holds nothing; that accesses to it from several threads conflict is what it is for.
#[cfg(loom)]
unsafe impl<T: Sync> Sync for LockMemory<T> {}

impl<T> LockMemory<T> {
    const_fn! {
        /// The memory of a new lock.
        pub fn new(words: T) -> LockMemory<T> {
            LockMemory {
                words,
                #[cfg(loom)]
                life: loom::cell::UnsafeCell::new(()),
            }
        }
    }

    /// Its address, which names the lock. No access.
    #[inline]
    pub fn address(&self) -> usize {
        core::ptr::from_ref(&self.words).addr()
    }

    /// What freeing the memory would be.
    #[cfg(loom)]
    pub fn retire(&self) {
        self.life.with_mut(|_| ());
    }
}

impl<T> core::ops::Deref for LockMemory<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        #[cfg(loom)]
        self.life.with(|_| ());
        &self.words
    }
}
