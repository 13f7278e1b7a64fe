//! `pv_lock_ops`: what a lock calls to block a waiter that has spun for long enough, and to wake one.
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

#[cfg(feature = "std")]
mod chosen;
#[cfg(all(feature = "std", not(any(loom, shuttle))))]
mod costs;
#[cfg(all(feature = "std", target_os = "linux", not(any(loom, shuttle))))]
mod futex;
mod interface;
#[cfg(any(loom, shuttle))]
mod model;
mod native;
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
pub use interface::{Patience, Place, PvLockOps};
#[cfg(any(loom, shuttle))]
pub use model::{Interruptible, Model, Table};
pub use native::Native;
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
