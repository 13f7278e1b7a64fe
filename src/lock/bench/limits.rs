//! What the machine itself takes: no lock that hands over can be faster.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::super::clock::Clock;
use super::super::ops::{futex_wait, futex_wake};
use super::contention::pin;
use super::{quartiles, uncontended};

/// The limits, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    /// A locked `xadd` and a store.
    pub raw_pair_ns: f64,
    /// A futex's wake of, and switch to, a thread on the same CPU.
    pub futex_same_cpu_ns: f64,
    /// The same to a thread on another CPU; 0 where there is one only.
    pub futex_cross_cpu_ns: f64,
}

impl Limits {
    /// Measures each once, for so long.
    pub fn measure(cpus: &[usize], time: Duration) -> Limits {
        let first = cpus.first().copied().unwrap_or(0);
        Limits {
            raw_pair_ns: uncontended::raw(200_000).ns,
            futex_same_cpu_ns: hand_over(first, first, time),
            futex_cross_cpu_ns: cpus.get(1).map_or(0.0, |&second| hand_over(first, second, time)),
        }
    }
}

/// Two threads wake each other in turn: nanoseconds for one hand-over.
fn hand_over(one: usize, other: usize, time: Duration) -> f64 {
    let turn = AtomicU32::new(0);
    let done = AtomicBool::new(false);
    let run = |me: u32, cpu: usize| {
        pin(&[cpu]);
        let mut count = 0_u64;
        let start = Instant::now();
        loop {
            if me == 0 && start.elapsed() > time {
                done.store(true, Ordering::Release);
            }
            while turn.load(Ordering::Acquire) != me {
                if done.load(Ordering::Acquire) {
                    return (count, start.elapsed());
                }
                futex_wait(&turn, 1 - me, Some(Duration::from_millis(100)));
            }
            turn.store(1 - me, Ordering::Release);
            futex_wake(&turn, 1);
            count += 1;
            if done.load(Ordering::Acquire) {
                return (count, start.elapsed());
            }
        }
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| run(1, other));
        let (count, elapsed) = scope.spawn(|| run(0, one)).join().unwrap_or_default();
        let _ = other.join();
        elapsed.as_secs_f64() * 1e9 / (2 * count.max(1)) as f64
    })
}

/// In which mode the machine is: nanoseconds for a cache line to go from one CPU to another, or, with one CPU, for an
/// uncontended pair. A virtual machine's CPUs are moved about and share caches with others: such a figure holds for some
/// seconds and then is another one, and so is the throughput of every lock.
pub fn mode_ns(cpus: &[usize], time: Duration) -> f64 {
    match *cpus {
        [first, second, ..] => line(first, second, time),
        _ => quartiles((0..20).map(|_| uncontended::raw(2_000).ns))[0],
    }
}

/// Two threads pass a word to and fro. A thread that loses its CPU meanwhile spoils some transfers, not the lower quartile.
fn line(one: usize, other: usize, time: Duration) -> f64 {
    const TRANSFERS: u32 = 512;
    Clock::calibrate();
    let turn = AtomicU32::new(0);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin(&[other]);
            while !done.load(Ordering::Relaxed) {
                if turn.load(Ordering::Acquire) == 1 {
                    turn.store(0, Ordering::Release);
                }
            }
        });
        let passes = scope.spawn(|| {
            pin(&[one]);
            let start = Instant::now();
            let mut ticks = Vec::new();
            while start.elapsed() < time || ticks.is_empty() {
                let before = Clock::now();
                for _ in 0..TRANSFERS / 2 {
                    turn.store(1, Ordering::Release);
                    while turn.load(Ordering::Acquire) == 1 {}
                }
                ticks.push(Clock::now().wrapping_sub(before));
            }
            done.store(true, Ordering::Relaxed);
            ticks
        });
        let ticks = passes.join().unwrap_or_default();
        quartiles(ticks.into_iter().map(|ticks| Clock::time(ticks).as_secs_f64() * 1e9 / f64::from(TRANSFERS)))[0]
    })
}
