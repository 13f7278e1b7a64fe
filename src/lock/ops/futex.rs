//! The default backend: a waiter sleeps in the kernel on its slot.

use core::ptr;
use core::time::Duration;

use super::super::clock::Clock;
use super::super::mutants::{Mutant, planted};
use super::super::slots::{Slots, Want};
use super::super::sync::AtomicU32;
use super::interface::PvLockOps;
use super::{costs, threads};

/// `FUTEX_WAIT` and `FUTEX_WAKE` on the slot.
#[derive(Debug, Clone, Copy, Default)]
pub struct Futex;

/// Sleeps while `*word == seen`, at most so long.
pub fn wait(word: &AtomicU32, seen: u32, longest: Option<Duration>) {
    let longest = longest.map(|time| libc::timespec {
        // The name of the field's type is deprecated where it has 32 bits (musl): 68 years fit into any.
        tv_sec: time.as_secs().min(i32::MAX as u64) as _,
        tv_nsec: libc::c_long::from(time.subsec_nanos()),
    });
    let longest = longest.as_ref().map_or(ptr::null(), ptr::from_ref);
    let command = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the word is alive and aligned, the kernel only reads it; the timeout is null or outlives the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), command, seen, longest) };
}

/// Wakes so many sleepers.
pub fn wake(word: &AtomicU32, count: libc::c_int) {
    let command = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the kernel takes the address as a name and touches no memory.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), command, count) };
}

static SLOTS: Slots = Slots::new();

impl PvLockOps for Futex {
    #[inline]
    fn slot(&self, want: Want) -> &AtomicU32 {
        SLOTS.of(want)
    }

    #[inline]
    fn waited(&self) -> &AtomicU32 {
        SLOTS.waited()
    }

    fn lock_spinning(&self, word: &AtomicU32, seen: u32, _: Want) {
        let slept = Clock::now();
        wait(word, seen, None);
        costs::woke(word, slept);
    }

    fn lock_spinning_for(&self, word: &AtomicU32, seen: u32, _: Want, time: Duration) {
        let slept = Clock::now();
        wait(word, seen, Some(time));
        costs::woke(word, slept);
    }

    fn unlock_kick(&self, word: &AtomicU32, _: Want) {
        costs::kicks(word);
        wake(word, if planted(Mutant::OneSlotForAll) { 1 } else { libc::c_int::MAX });
    }

    threads::of_threads!();
}
