//! The fence between an unlocker's release and its look for waiters, which the waiter executes for both.
//!
//! The unlocker stores (the release) and loads (is the next owner parked?); the waiter stores (I park) and loads (is it
//! my turn?). Each must see the other's store, or a waiter sleeps for ever. x86 may execute a load before an earlier
//! store, and the locked instruction that prevents it costs an unlocker as much as the rest of its release. A waiter is
//! about to sleep, where that cost does not matter: `membarrier(PRIVATE_EXPEDITED)` has every CPU that runs this process
//! execute a fence. Where the kernel has no `membarrier`, or seccomp refuses it, the unlockers fence: their slots say so
//! (`SYMMETRIC`).
//!
//! That a waiter's fence serves both is checked on the memory model of x86 ([`check`](super::check)). On every other
//! machine a release has a fence of its own, as it has in the models that loom searches, and nothing rests on `membarrier`.

use super::sync::{self, Ordering};

#[cfg(all(feature = "std", target_os = "linux", not(any(loom, shuttle, miri))))]
mod system {
    use core::sync::atomic::{AtomicU32, Ordering};

    const PRIVATE_EXPEDITED: libc::c_int = 1 << 3;
    const REGISTER_PRIVATE_EXPEDITED: libc::c_int = 1 << 4;

    const UNASKED: u32 = 0;
    const ABSENT: u32 = 1;
    const PRESENT: u32 = 2;
    static STATE: AtomicU32 = AtomicU32::new(UNASKED);

    fn membarrier(command: libc::c_int) -> bool {
        // SAFETY: the system call takes three integers and touches no memory of ours.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
    }

    pub fn choose() {
        if STATE.load(Ordering::Relaxed) != UNASKED {
            return;
        }
        // Registering twice is harmless; a child inherits the registration through fork.
        let present = membarrier(REGISTER_PRIVATE_EXPEDITED) && membarrier(PRIVATE_EXPEDITED);
        STATE.store(if present { PRESENT } else { ABSENT }, Ordering::Relaxed);
    }

    pub fn barrier() -> bool {
        membarrier(PRIVATE_EXPEDITED)
    }

    pub fn asymmetric() -> bool {
        choose();
        STATE.load(Ordering::Relaxed) == PRESENT
    }
}

#[cfg(not(all(feature = "std", target_os = "linux", not(any(loom, shuttle, miri)))))]
mod system {
    pub fn choose() {}

    pub fn barrier() -> bool {
        false
    }

    pub fn asymmetric() -> bool {
        false
    }
}

/// Asks once whether the kernel has `membarrier`, so that unlockers need no fence. Any constructor does it; a lock made
/// by a `const` does it at its first release.
pub fn choose() {
    system::choose();
}

/// Whether each release has a fence of its own, and no slot has to ask for one.
const OWN_FENCE: bool = cfg!(not(any(target_arch = "x86_64", target_arch = "x86")));

/// Whether waiters fence for the unlockers in this process.
pub fn asymmetric() -> bool {
    !OWN_FENCE && system::asymmetric()
}

/// Whether a slot need not ask unlockers to fence: waiters do it for them, or they do it unasked.
pub fn is_settled() -> bool {
    OWN_FENCE || system::asymmetric()
}

/// The unlocker's side between its store and its load: on x86 nothing but an order for the compiler.
///
/// The model checkers know no `membarrier`: for them it is a fence.
#[inline(always)]
pub fn light() {
    if OWN_FENCE || cfg!(any(loom, shuttle)) {
        full();
    } else {
        core::sync::atomic::compiler_fence(Ordering::SeqCst);
    }
}

/// The waiter's side between its store and its load. `false` if the kernel refused: then nothing is ordered.
#[must_use]
pub fn heavy(symmetric: bool) -> bool {
    full();
    symmetric || OWN_FENCE || cfg!(any(loom, shuttle)) || system::barrier()
}

/// A full fence of this CPU.
#[inline]
pub fn full() {
    sync::fence(Ordering::SeqCst);
}
