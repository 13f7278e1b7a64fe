//! A lock that owns what it guards.

use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::time::Duration;

use super::pv_ticket::PvTicketLock;
use super::raw::RawLock;

/// Data, and the lock without which nobody reaches it.
///
/// There is no poisoning: a thread that panics with a guard releases the lock while it unwinds, and the next one finds
/// the data as it was left, as with `parking_lot` and `spin`.
///
/// ```
/// use pvops::lock::{Lock, PvTicketLock};
/// let pages: Lock<Vec<u64>> = Lock::new(Vec::new());
/// pages.lock().push(0x1000);
/// let other: Lock<u32, PvTicketLock> = Lock::with(PvTicketLock::new(), 7);
/// assert_eq!(*other.lock(), 7);
/// ```
pub struct Lock<T: ?Sized, L: RawLock = PvTicketLock> {
    raw: L,
    data: UnsafeCell<T>,
}

// SAFETY: the data is reached through a guard alone, and there is one guard at a time: it moves between threads.
unsafe impl<T: ?Sized + Send, L: RawLock> Send for Lock<T, L> {}
// SAFETY: as above; sharing the lock hands the data from thread to thread, and never to two at once.
unsafe impl<T: ?Sized + Send, L: RawLock> Sync for Lock<T, L> {}

impl<T, L: RawLock + Default> Lock<T, L> {
    /// Guards data by a new lock.
    pub fn new(data: T) -> Self {
        Self::with(L::default(), data)
    }
}

impl<T, L: RawLock> Lock<T, L> {
    /// Guards data by this lock, which is free.
    pub const fn with(raw: L, data: T) -> Self {
        Lock { raw, data: UnsafeCell::new(data) }
    }

    /// The data, when nobody can reach it any more.
    pub fn into_inner(self) -> T {
        self.data.into_inner()
    }
}

impl<T: ?Sized, L: RawLock> Lock<T, L> {
    /// Acquires; waits as long as it takes.
    #[inline]
    pub fn lock(&self) -> Guard<'_, T, L> {
        let held = self.raw.acquire();
        Guard::of(self, held)
    }

    /// Acquires if that takes no waiting.
    #[inline]
    pub fn try_lock(&self) -> Option<Guard<'_, T, L>> {
        self.raw.try_lock().then(|| Guard::of(self, self.raw.held()))
    }

    /// Acquires, or gives up after this time: [`RawLock::try_lock_for`].
    pub fn try_lock_for(&self, time: Duration) -> Option<Guard<'_, T, L>> {
        self.raw.try_lock_for(time).then(|| Guard::of(self, self.raw.held()))
    }

    /// Whether someone holds it.
    pub fn is_locked(&self) -> bool {
        self.raw.is_locked()
    }

    /// Whether someone waits for it.
    pub fn is_contended(&self) -> bool {
        self.raw.is_contended()
    }

    /// The data, by a reference that proves that nobody else has one.
    pub fn get_mut(&mut self) -> &mut T {
        self.data.get_mut()
    }

    /// The lock itself.
    pub fn raw(&self) -> &L {
        &self.raw
    }
}

/// The right to the data, until it is dropped. It stays on its thread.
#[must_use = "dropping the guard releases the lock"]
pub struct Guard<'a, T: ?Sized, L: RawLock> {
    lock: &'a Lock<T, L>,
    held: L::Held,
    // A lock is released by the thread that acquired it.
    stays: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives shared access to the data, no more.
unsafe impl<T: ?Sized + Sync, L: RawLock> Sync for Guard<'_, T, L> where L::Held: Sync {}

impl<'a, T: ?Sized, L: RawLock> Guard<'a, T, L> {
    fn of(lock: &'a Lock<T, L>, held: L::Held) -> Self {
        Guard { lock, held, stays: PhantomData }
    }
}

impl<T: ?Sized, L: RawLock> Deref for Guard<'_, T, L> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard is the only one.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T: ?Sized, L: RawLock> DerefMut for Guard<'_, T, L> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard is the only one, and it is borrowed mutably.
        unsafe { &mut *self.lock.data.get() }
    }
}

impl<T: ?Sized, L: RawLock> Drop for Guard<'_, T, L> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the guard was made by an acquisition, whose `held` it has, and is dropped once.
        unsafe { self.lock.raw.release(self.held) };
    }
}
