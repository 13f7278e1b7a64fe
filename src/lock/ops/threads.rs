//! What all backends have in common that block threads: how long these spin and let each other run before.

use core::cell::Cell;
use core::time::Duration;
use std::sync::OnceLock;

use super::super::clock::Clock;
use super::interface::Patience;

/// The ops of a backend that blocks threads, but for its slots, `lock_spinning` and `unlock_kick`.
macro_rules! of_threads {
    () => {
        const FIRST_LOOKS: u32 = 16;

        fn yield_now(&self) {
            std::thread::yield_now();
        }

        fn take_turns(&self) {
            $crate::lock::ops::threads::take_turns();
        }

        fn nap(&self, time: core::time::Duration) {
            std::thread::sleep(time);
        }

        fn patience(&self) -> $crate::lock::ops::interface::Patience {
            $crate::lock::ops::threads::patience()
        }

        #[cfg(target_os = "linux")]
        fn place(&self, want: Want, distance: u32, looked: Option<u64>) -> $crate::lock::ops::interface::Place {
            $crate::lock::ops::rounds::place(want, distance, looked)
        }

        // Without the number of a thread's CPU the next owner is taken to be on another one.
        #[cfg(not(target_os = "linux"))]
        fn place(&self, _: Want, distance: u32, _: Option<u64>) -> $crate::lock::ops::interface::Place {
            use $crate::lock::ops::interface::Place;
            if distance <= 1 { Place::First } else { Place::Behind }
        }

        #[cfg(target_os = "linux")]
        fn note(&self, want: Want) {
            $crate::lock::ops::rounds::note(want);
        }
    };
}
pub(super) use of_threads;

/// Shorter than a scheduler's time slice (2.8 ms and more), and long beside a switch of threads (about 2 µs).
const TURN: Duration = Duration::from_micros(500);

pub fn take_turns() {
    std::thread_local! {
        static SINCE: Cell<u64> = const { Cell::new(0) };
    }
    SINCE.with(|since| {
        if Clock::now().wrapping_sub(since.get()) > Clock::ticks(TURN) {
            std::thread::yield_now();
            since.set(Clock::now());
        }
    });
}

/// On another CPU the owner is done sooner than this, or does not run.
const SPIN: Duration = Duration::from_micros(1);

/// Who would only let those run whose turn comes after its own spins for as long as it takes to be kicked by another
/// CPU: 26 to 40 µs. Until then the other CPU may well have switched to the owner.
const FIRST: Duration = Duration::from_micros(30);

/// How often a waiter lets others run before it blocks. Where there is nobody else to run that takes 70 µs in all, of
/// the order of being kicked when one's CPU has gone idle; where there is, it is a third of what a futex's sleep and
/// wake cost, and who is runnable gets the lock without either.
const YIELDS: u32 = 64;

/// Beyond this a waiter is delayed by the other threads of its CPU, and not by the lock.
const LONGEST: Duration = Duration::from_millis(2);

pub fn patience() -> Patience {
    static PATIENCE: OnceLock<Patience> = OnceLock::new();
    PATIENCE.get().copied().unwrap_or_else(|| {
        static ALONE: OnceLock<bool> = OnceLock::new();
        let alone = *ALONE.get_or_init(|| std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() == 1));
        // No other CPU could release the lock meanwhile.
        let unless_alone = |time| if alone { 0 } else { Clock::ticks(time) };
        let (spin, first) = (unless_alone(SPIN), unless_alone(FIRST));
        let known = Clock::is_calibrated();
        let patience = Patience { spin, first, yields: YIELDS, longest: Clock::ticks(LONGEST) };
        if known { *PATIENCE.get_or_init(|| patience) } else { patience }
    })
}
