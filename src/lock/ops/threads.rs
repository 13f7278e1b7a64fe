//! What all backends have in common that block threads: how long these spin and let each other run before.

use core::cell::Cell;
use core::time::Duration;

use super::super::clock::Clock;
use super::costs;

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

        fn settle(&self) {
            $crate::lock::ops::costs::settle();
        }

        fn nap(&self, time: core::time::Duration) {
            std::thread::sleep(time);
        }

        fn patience(&self) -> $crate::lock::ops::interface::Patience {
            $crate::lock::ops::costs::patience()
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
    // Who has to wait has neither lock nor ticket yet.
    costs::settle();
    SINCE.with(|since| {
        if Clock::now().wrapping_sub(since.get()) > Clock::ticks(TURN) {
            std::thread::yield_now();
            since.set(Clock::now());
        }
    });
}
