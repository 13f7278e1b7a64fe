//! Ticket locks whose fast path calls nobody, and whose waiters call the hypervisor when they have spun for long enough.
//!
//! The post of June 2010 says where a paravirtual spinlock calls out: "only in the slow case: when a spinlock has been
//! spinning for long enough, and on unlock when there's someone waiting for the lock". Every protocol that Linux tried
//! is here, beside two of our own, each a type with the one interface [`RawLock`]:
//!
//! | name | type | acquire | waits | release |
//! |---|---|---|---|---|
//! | `ticket-2.6.25` | [`TicketLock2_6_25`] | one `xadd` | spins, for ever | increment |
//! | `xen-byte-2.6.27` | [`XenByteLock2_6_27`] | `xchg` of a byte | blocks on the lock | store, fence, count of spinners |
//! | `pv-ticket-3.12` | [`PvTicketLock3_12`] | `xadd`, flag in the tail | blocks on its ticket | add, *then* looks at the tail |
//! | `pv-ticket-4.0` | [`PvTicketLock4_0`] | `xadd`, flag in the head | blocks on its ticket | one `xadd` that brings the flag |
//! | `pv-ticket` | [`PvTicketLock`] | one `xadd` | blocks on its ticket | plain store, plain look |
//! | `pv-hybrid` | [`PvHybridLock`] | one `cmpxchg`, steals | queues behind the byte | plain store, plain look |
//!
//! What blocks and what wakes is a backend ([`PvLockOps`]): choosing one enlightens a lock. The locks stand alone: they
//! know nothing of the rest of the crate, and without the feature `std` (the clock, futexes, threads) they are `no_std`.
//! Under `--cfg loom` and `--cfg shuttle` the same code runs on their atomics; `--cfg mutants` plants known bugs.
//!
//! The locks are proved, run and measured on x86-64. Elsewhere they have the orderings of C11 that loom searches, and a
//! fence in each release ([`fence`]). Built for aarch64 their tests pass in QEMU, which keeps x86's order of memory; two
//! threads of `pv-ticket` are held to Armv8's axioms; nobody has run them on such a machine (`docs/checking-the-lock.md`).
//!
//! Beside the locks, and with no code in common: [`check`], every state of their protocols on x86-TSO, and [`sim`],
//! virtual CPUs that share them.

#[cfg(feature = "std")]
mod at_fork;
#[cfg(all(feature = "peers", target_os = "linux", not(any(loom, shuttle))))]
pub mod bench;
#[cfg(not(feature = "alone"))]
pub mod check;
mod clock;
pub mod counters;
mod default_backend;
pub mod fence;
mod guard;
#[cfg(feature = "std")]
mod left;
mod limit;
#[cfg(feature = "std")]
mod lock_api;
mod mutants;
pub mod ops;
mod parking;
mod patience;
mod pv_3_12;
mod pv_4_0;
mod pv_hybrid;
mod pv_ticket;
mod raw;
#[cfg(not(feature = "alone"))]
pub mod sim;
mod slots;
mod sync;
mod ticket;
mod xen_byte;

pub use clock::Clock;
pub use counters::Counters;
pub use guard::{Guard, Lock};
pub use mutants::Mutant;
#[cfg(mutants)]
pub use mutants::with as with_mutant;
pub use ops::PvLockOps;
pub use pv_3_12::PvTicketLock3_12;
pub use pv_4_0::PvTicketLock4_0;
pub use pv_hybrid::PvHybridLock;
pub use pv_ticket::PvTicketLock;
pub use raw::{Leave, MoreWaitersThanTickets, RawLock};
pub use slots::{Slots, Want};
pub use sync::AtomicU32;
pub use ticket::{SmallTicketLock, TicketLock2_6_25};
pub use xen_byte::XenByteLock2_6_27;
