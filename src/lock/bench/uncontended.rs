//! One thread, nobody else: what an acquisition and a release cost.

use std::time::Instant;

use super::measured::Measured;

/// The cost of a pair, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// Nanoseconds for an acquisition and its release.
    pub ns: f64,
}

fn time(pairs: u32, mut pair: impl FnMut()) -> Pair {
    let start = Instant::now();
    (0..pairs).for_each(|_| pair());
    Pair { ns: start.elapsed().as_secs_f64() * 1e9 / f64::from(pairs.max(1)) }
}

/// The mean over so many pairs, in one go.
pub fn measure<L: Measured>(pairs: u32) -> Pair {
    // Where the allocator puts it must not decide: a lock in the middle of two cache lines of its own.
    #[repr(align(128))]
    struct Apart<T>(T);
    let lock = Apart(L::free());
    // As in a program each pair comes to a lock anew: no part of one is done once for all.
    let mut at = &lock.0;
    time(pairs, || {
        at = anew(at);
        at.with(|| ());
    })
}

/// The same reference, and the compiler does not know so. On x86-64 without an instruction: what `black_box` adds, a way
/// through memory and addresses that are made again behind each call, is no part of a lock, and more of it where a lock
/// has a call for the slow path.
#[inline(always)]
fn anew<T>(reference: &T) -> &T {
    #[cfg(target_arch = "x86_64")]
    {
        let mut at: *const T = reference;
        // SAFETY: there is no instruction: the register holds the pointer before and after.
        unsafe { core::arch::asm!("/* {0} */", inout(reg) at, options(nostack, preserves_flags)) };
        // SAFETY: it is the pointer of the reference.
        unsafe { &*at }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        std::hint::black_box(reference)
    }
}

/// The machine's limit: one locked instruction and a store, to the same line.
pub fn raw(pairs: u32) -> Pair {
    use std::sync::atomic::{AtomicU32, Ordering};
    #[repr(align(128))]
    struct Words(AtomicU32, AtomicU32);
    let words = Words(AtomicU32::new(0), AtomicU32::new(0));
    let mut at = &words;
    time(pairs, || {
        at = anew(at);
        let ticket = at.0.fetch_add(1, Ordering::Acquire);
        at.1.store(ticket, Ordering::Release);
    })
}
