//! `pv_lock_ops`: what a lock calls when spinning makes no sense, and when someone must be woken.
//!
//! | backend | `lock_spinning` | `unlock_kick` |
//! |---|---|---|
//! | [`Native`] | nothing: spins on | nothing |
//! | [`Futex`] (default) | sleeps on the slot itself | wakes the slot |
//! | [`Park`] | parks the thread | unparks those who spin on the slot |
//! | [`EventChannel`] | as Xen: notes what it spins on, polls its event channel | scans the notes, notifies the channel |
//! | [`Halt`] | as KVM: notes what it spins on, halts | scans the notes, kicks the CPU |
//!
//! A backend chosen at run time is [`Chosen`]; one may be written in Python.

use core::time::Duration;

use super::Counters;
use super::patience::Patience;
use super::slots::Want;
use super::sync::AtomicU32;

#[cfg(feature = "std")]
mod chosen;
#[cfg(all(feature = "std", target_os = "linux", not(any(loom, shuttle))))]
mod futex;
#[cfg(any(loom, shuttle))]
mod model;
#[cfg(all(feature = "std", target_os = "linux", not(any(loom, shuttle))))]
mod rounds;
#[cfg(all(feature = "std", not(any(loom, shuttle))))]
mod threads;
#[cfg(feature = "std")]
mod vcpus;

#[cfg(all(feature = "std", not(any(loom, shuttle))))]
pub use chosen::{Backend, Chosen};
#[cfg(all(feature = "std", target_os = "linux", not(any(loom, shuttle))))]
pub use futex::Futex;
#[cfg(all(feature = "peers", target_os = "linux", not(any(loom, shuttle))))]
pub(super) use futex::{wait as futex_wait, wake as futex_wake};
#[cfg(any(loom, shuttle))]
pub use model::{Interruptible, Model};
#[cfg(all(feature = "std", not(any(loom, shuttle))))]
pub use vcpus::Park;
#[cfg(all(feature = "std", target_os = "linux", not(any(loom, shuttle))))]
pub use vcpus::{EventChannel, Halt};

/// The backend that a lock has unless told otherwise.
#[cfg(all(feature = "std", target_os = "linux", not(any(loom, shuttle))))]
pub type Default = Futex;
/// The backend that a lock has unless told otherwise.
#[cfg(all(feature = "std", not(target_os = "linux"), not(any(loom, shuttle))))]
pub type Default = Park;
/// The backend that a lock has unless told otherwise.
#[cfg(any(not(feature = "std"), loom, shuttle))]
pub type Default = Native;

/// Where a waiter of a queue stands among those who wait on its CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// No waiter before it is on this CPU: it may spin.
    First,
    /// Somebody who is before it needs this CPU.
    Behind,
    /// As `Behind`; and its turn comes right after that of one who gets this CPU right after it. By the time it is the
    /// owner everybody else has had the CPU in vain, unless the other lets it run then.
    OutOfTurn,
}

/// The ops of a lock. `Copy`, and asked for before the release: afterwards the lock may be gone.
pub trait PvLockOps: Copy + Send + Sync {
    /// How often a waiter whose turn is next looks before anything else: where each thread has a CPU, the holder is done
    /// before a longer wait has been set up.
    const FIRST_LOOKS: u32 = 0;

    /// `lock_spinning(lock, want)`: blocks until `word` is no longer `seen`. May return earlier, for no reason; must not
    /// sleep on when `word` changed before it was called.
    fn lock_spinning(&self, word: &AtomicU32, seen: u32, want: Want);

    /// `unlock_kick(lock, next)`: wakes all whom [`lock_spinning`](Self::lock_spinning) blocks on `word`, which has just
    /// changed.
    fn unlock_kick(&self, word: &AtomicU32, next: Want);

    /// Where waiters of this ticket park: in a table of this backend's own. Whose kick cleared a slot also wakes those
    /// who sleep there, so they must all be of one backend.
    fn slot(&self, want: Want) -> &AtomicU32;

    /// Whether [`lock_spinning`](Self::lock_spinning) blocks at all.
    fn blocks(&self) -> bool {
        true
    }

    /// Lets another thread run.
    fn yield_now(&self) {
        super::sync::relax();
    }

    /// Does nothing for about this time.
    fn nap(&self, _time: Duration) {
        super::sync::relax();
    }

    /// Lets others run if this thread has had the CPU for a turn: what one does who has to wait for a lock anyway, lest
    /// the CPU is taken from it when it holds the lock.
    fn take_turns(&self) {}

    /// How long a waiter waits before it blocks.
    fn patience(&self) -> Patience {
        Patience { spin: 0, first: 0, yields: 0, longest: 0 }
    }

    /// Where a waiter of a queue, whom so many tickets part from the lock, stands among those who wait on its CPU.
    /// `looked` is when it last let others run.
    fn place(&self, _want: Want, _distance: u32, _looked: Option<u64>) -> Place {
        Place::Behind
    }

    /// Notes that a waiter of a queue lets others run now: for [`place`](Self::place) of those behind it.
    fn note(&self, _want: Want) {}

    /// Where to count, if counting is on.
    #[inline]
    fn counters(&self) -> Option<&Counters> {
        None
    }
}

/// The native ops: there is no hypervisor to call, a waiter spins.
#[derive(Debug, Clone, Copy, Default)]
pub struct Native;

impl PvLockOps for Native {
    #[inline]
    fn slot(&self, _: Want) -> &AtomicU32 {
        #[cfg(not(any(loom, shuttle)))]
        {
            static NOBODY: AtomicU32 = AtomicU32::new(0);
            &NOBODY
        }
        #[cfg(any(loom, shuttle))]
        {
            unreachable!("the models' backends have tables of their own")
        }
    }

    fn lock_spinning(&self, _: &AtomicU32, _: u32, _: Want) {
        super::sync::relax();
    }

    fn unlock_kick(&self, _: &AtomicU32, _: Want) {}

    fn blocks(&self) -> bool {
        false
    }
}
