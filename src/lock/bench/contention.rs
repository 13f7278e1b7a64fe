//! Threads that share a lock: how often, how long each waited, and whether all got their part.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::super::clock::Clock;
use super::measured::Measured;

/// What the threads do.
#[derive(Debug, Clone)]
pub struct Case {
    /// How many there are.
    pub threads: usize,
    /// The CPUs they run on, by number.
    pub cpus: Vec<usize>,
    /// Nanoseconds that a thread holds the lock.
    pub section_ns: u64,
    /// Nanoseconds that it does something else before it comes again.
    pub pause_ns: u64,
    /// How long to measure, and how long to run before.
    pub time: Duration,
    /// How long to run before.
    pub warm_up: Duration,
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Contention {
    /// Acquisitions in a second, of all threads together.
    pub ops_per_second: f64,
    /// The wait that half of the acquisitions did not exceed, in microseconds.
    pub wait_p50_us: f64,
    /// The wait that all but a thousandth of the acquisitions did not exceed, in microseconds.
    pub wait_p999_us: f64,
    /// The longest wait, in microseconds.
    pub wait_max_us: f64,
    /// Acquisitions of the thread that got fewest, for each of the thread that got most.
    pub fairness: f64,
}

const IDLE: u32 = 0;
const MEASURE: u32 = 1;
const STOP: u32 = 2;

/// A counter that only the holder touches, and no lock protects but the one that is measured.
struct Counter(UnsafeCell<u64>);
// SAFETY: it is touched by the holder of the measured lock alone; that this holds is what its value shows in the end.
unsafe impl Sync for Counter {}

/// Waits, in classes of an eighth of an octave.
struct Waits {
    classes: Box<[u64; 512]>,
    longest: u64,
}

impl Waits {
    fn new() -> Waits {
        Waits { classes: Box::new([0; 512]), longest: 0 }
    }

    #[inline]
    fn note(&mut self, ticks: u64) {
        let octave = 63 - (ticks | 8).leading_zeros();
        let class = (octave - 3) * 8 + ((ticks | 8) >> (octave - 3) & 7) as u32;
        self.classes[class as usize] += 1;
        self.longest = self.longest.max(ticks);
    }

    /// The upper end of the class below which this share of all waits lies, in ticks.
    fn quantile(&self, share: f64) -> u64 {
        let all: u64 = self.classes.iter().sum();
        let (wanted, mut seen) = ((all as f64 * share) as u64, 0);
        for (class, count) in self.classes.iter().enumerate() {
            seen += count;
            if seen > wanted {
                return ((8 + class as u64 % 8 + 1) << (class / 8)).min(self.longest);
            }
        }
        self.longest
    }
}

/// Keeps the calling thread on these CPUs, as far as the system allows.
pub fn pin(cpus: &[usize]) {
    // SAFETY: an all-zero set is an empty one, and the set outlives the call, which only reads it.
    unsafe {
        let mut set: libc::cpu_set_t = core::mem::zeroed();
        cpus.iter().filter(|&&cpu| cpu < 1024).for_each(|&cpu| libc::CPU_SET(cpu, &mut set));
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set);
    }
}

fn busy(ticks: u64) {
    let start = Clock::now();
    while Clock::now().wrapping_sub(start) < ticks {}
}

struct Share {
    measured: u64,
    all: u64,
    waits: Waits,
}

/// Runs a case.
///
/// # Errors
/// If the lock did not exclude.
pub fn measure<L: Measured>(case: &Case) -> Result<Contention, String> {
    #[repr(align(128))]
    struct Apart<T>(T);
    let lock = Apart(L::free());
    let counter = Apart(Counter(UnsafeCell::new(0)));
    let phase = Apart(AtomicU32::new(IDLE));
    Clock::calibrate();
    let (section, pause) =
        (Clock::ticks(Duration::from_nanos(case.section_ns)), Clock::ticks(Duration::from_nanos(case.pause_ns)));
    let work = || {
        pin(&case.cpus);
        let counter = &counter.0;
        let mut share = Share { measured: 0, all: 0, waits: Waits::new() };
        loop {
            let phase = phase.0.load(Ordering::Relaxed);
            if phase == STOP {
                return share;
            }
            let start = Clock::now();
            let waited = lock.0.with(|| {
                let waited = Clock::now().wrapping_sub(start);
                // SAFETY: the lock is held.
                unsafe { *counter.0.get() += 1 };
                if section > 0 {
                    busy(section);
                }
                waited
            });
            share.all += 1;
            if phase == MEASURE {
                share.measured += 1;
                share.waits.note(waited);
            }
            if pause > 0 {
                busy(pause);
            }
        }
    };
    let (shares, elapsed) = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..case.threads).map(|_| scope.spawn(work)).collect();
        std::thread::sleep(case.warm_up);
        phase.0.store(MEASURE, Ordering::Relaxed);
        let start = Instant::now();
        std::thread::sleep(case.time);
        phase.0.store(STOP, Ordering::Relaxed);
        let elapsed = start.elapsed();
        let shares: Vec<Share> = threads.into_iter().filter_map(|thread| thread.join().ok()).collect();
        (shares, elapsed)
    });
    let counted = counter.0.0.into_inner();
    let all: u64 = shares.iter().map(|share| share.all).sum();
    if counted != all {
        return Err(format!("the lock did not exclude: {all} acquisitions, {counted} counted"));
    }
    Ok(summary(&shares, elapsed))
}

fn summary(shares: &[Share], elapsed: Duration) -> Contention {
    let mut waits = Waits::new();
    for share in shares {
        waits.classes.iter_mut().zip(share.waits.classes.iter()).for_each(|(sum, one)| *sum += one);
        waits.longest = waits.longest.max(share.waits.longest);
    }
    let us = |ticks| Clock::time(ticks).as_secs_f64() * 1e6;
    let (fewest, most) = shares
        .iter()
        .fold((u64::MAX, 0), |(fewest, most), share| (fewest.min(share.measured), most.max(share.measured)));
    Contention {
        ops_per_second: shares.iter().map(|share| share.measured).sum::<u64>() as f64 / elapsed.as_secs_f64(),
        wait_p50_us: us(waits.quantile(0.5)),
        wait_p999_us: us(waits.quantile(0.999)),
        wait_max_us: us(waits.longest),
        fairness: if most == 0 { 0.0 } else { fewest as f64 / most as f64 },
    }
}
