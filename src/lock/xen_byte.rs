//! `xen-byte-2.6.27`: with `pv_lock_ops` (74d4affde8fe) the whole lock was an op, and Xen's was a byte.

use core::time::Duration;

use super::fence;
use super::limit::Until;
use super::mutants::{Mutant, planted};
use super::ops::{self, PvLockOps};
use super::parking;
use super::patience::{self, Waiting};
use super::raw::RawLock;
use super::slots::Want;
use super::sync::{AtomicU32, LockMemory, Ordering, const_fn};

/// Xen's byte lock: `xchgb`, a count of those who block, no order among them.
///
/// Releasing stores the byte, fences (2496afbf1e50: without it guests with more than four CPUs did not boot), and looks
/// at the count. All who wait block on the one lock: a kick wakes them all.
pub struct XenByteLock2_6_27<O = ops::Default> {
    /// | word | means |
    /// |---|---|
    /// | lock | 1: held |
    /// | spinners | how many block, or are about to |
    words: LockMemory<[AtomicU32; 2]>,
    ops: O,
}

impl<O: PvLockOps> XenByteLock2_6_27<O> {
    const_fn! {
        /// A free lock that is enlightened by these ops.
        pub fn with_ops(ops: O) -> Self {
            XenByteLock2_6_27 { words: LockMemory::new([AtomicU32::new(0), AtomicU32::new(0)]), ops }
        }
    }

    /// What freeing it would be.
    #[cfg(loom)]
    pub fn retire(&self) {
        self.words.retire();
    }

    fn want(&self) -> Want {
        Want { lock: self.words.address(), ticket: 0 }
    }

    #[cold]
    fn wait(&self) {
        let [lock, spinners] = &*self.words;
        let mut spins = 0;
        'blocked: loop {
            let mut waiting = Waiting::begin(self.ops.patience());
            loop {
                if lock.load(Ordering::Relaxed) == 0 && self.try_lock() {
                    break 'blocked;
                }
                if !waiting.turn(&self.ops) {
                    break;
                }
            }
            spins += waiting.spins;
            if !self.ops.blocks() {
                super::sync::relax();
                continue;
            }
            spinners.fetch_add(1, Ordering::SeqCst);
            parking::wait(&self.ops, self.want(), None, || lock.load(Ordering::Acquire) == 0);
            spinners.fetch_sub(1, Ordering::SeqCst);
        }
        if let Some(counters) = self.ops.counters() {
            counters.slow_path(spins);
        }
    }
}

// SAFETY: one exchange alone finds the byte free.
unsafe impl<O: PvLockOps> RawLock for XenByteLock2_6_27<O> {
    const PROTOCOL: &'static str = "xen-byte-2.6.27";
    type Held = ();

    fn lock(&self) {
        if !self.try_lock() {
            self.wait();
        }
    }

    fn try_lock(&self) -> bool {
        // Xen's was an xchg, which stores even where it fails.
        self.words[0].compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    fn try_lock_for(&self, time: Duration) -> bool {
        patience::poll(&self.ops, &mut Until::new(Some(time), None), || self.try_lock())
    }

    #[inline]
    fn held(&self) {}

    unsafe fn unlock(&self) {
        let [lock, spinners] = &*self.words;
        lock.store(0, Ordering::Release);
        if !planted(Mutant::MissingFence) {
            fence::full();
        }
        if spinners.load(Ordering::Relaxed) != 0 {
            let want = self.want();
            parking::kick_next(self.ops, want);
        }
    }

    fn is_locked(&self) -> bool {
        self.words[0].load(Ordering::Relaxed) != 0
    }

    fn is_contended(&self) -> bool {
        self.words[1].load(Ordering::Relaxed) != 0
    }
}
