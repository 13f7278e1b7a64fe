//! What waiting costs here, as the locks see it while they are used, and how long a waiter therefore waits before it blocks.
//!
//! A waiter that blocks is kicked when its turn comes, and runs some time later: a few microseconds on some machines,
//! 26 to 40 in a virtual machine whose CPU had gone idle. It pays to wait about as long as that before blocking. So a
//! kick is timed now and then, from the kicker's clock to the waiter's, and what the quick ones take decides.
//!
//! All this is relaxed atomics that nobody waits for; a figure that is wrong costs time and nothing else. What takes
//! longer, comparing the clocks and counting the CPUs, is done by threads that have neither lock nor ticket ([`settle`]).

use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use core::time::Duration;

use super::super::clock::Clock;
use super::super::sync::AtomicU32 as Word;
use super::interface::Patience;

/// On another CPU the owner of a lock that may be stolen is done sooner than this, or does not run.
const SPIN: Duration = Duration::from_micros(1);

/// What a kick takes until one has been seen, and within which limits that is believed.
const KICK: Duration = Duration::from_micros(30);
const KICKS: (Duration, Duration) = (Duration::from_micros(5), Duration::from_micros(60));

/// How often a waiter lets others run before it blocks, at least. Where others are there to run each time is a switch of
/// threads (2 to 3 µs); all of them are a third of what a futex's sleeps and wakes would cost, and who is runnable gets the
/// lock without either. Where nobody is there a switch takes a quarter of that, and time decides: see [`patience`].
const YIELDS: u32 = 64;

/// Beyond this a waiter is delayed by the other threads of its CPU, and not by the lock. Shorter than a time slice
/// (2.8 ms and more), which a thread cannot ask for: `sched_rr_get_interval()` says 0 where it is shorter than a tick.
const LONGEST: Duration = Duration::from_millis(2);

/// What a kick of an idle CPU takes, in ticks. 0: none has been seen.
static QUICK: AtomicU64 = AtomicU64::new(0);
/// Whether this process has one CPU only. Until that is known it is taken to have more.
static ALONE: AtomicBool = AtomicBool::new(false);

/// A kick that is being timed: of whom (the address of the slot; 0: none), since when, and on which CPU it was made.
static TIMED: AtomicUsize = AtomicUsize::new(0);
static SINCE: AtomicU64 = AtomicU64::new(0);
static CPU: AtomicU32 = AtomicU32::new(0);

fn cpu() -> Option<u32> {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: the call takes nothing and touches no memory of ours.
        u32::try_from(unsafe { libc::sched_getcpu() }).ok()
    }
    #[cfg(not(target_os = "linux"))]
    {
        None
    }
}

/// A waiter is about to be kicked.
pub fn kicks(slot: &Word) {
    let now = Clock::now();
    // One at a time; one that was never answered (its waiter left) is given up.
    let is_free = TIMED.load(Relaxed) == 0 || now.wrapping_sub(SINCE.load(Relaxed)) > Clock::ticks(LONGEST);
    if let Some(cpu) = cpu().filter(|_| is_free) {
        SINCE.store(now, Relaxed);
        CPU.store(cpu, Relaxed);
        TIMED.store(ptr::from_ref(slot).addr(), Relaxed);
    }
}

/// A waiter that went to sleep at `slept` runs again. On the CPU of who kicked it, it had to wait until that was done
/// with it: this says nothing.
pub fn woke(slot: &Word, slept: u64) {
    if TIMED.load(Relaxed) != ptr::from_ref(slot).addr() {
        return;
    }
    let (now, since) = (Clock::now(), SINCE.load(Relaxed));
    TIMED.store(0, Relaxed);
    // Kicked before it went to sleep it did not sleep.
    if since >= slept && cpu() != Some(CPU.load(Relaxed)) {
        let took = now.wrapping_sub(since).clamp(Clock::ticks(KICKS.0), Clock::ticks(KICKS.1));
        // Down fast and up slowly: one that took longer tells as often as not that its CPU had something else to do.
        let quick = match QUICK.load(Relaxed) {
            0 => took,
            quick if took < quick => quick - (quick - took) / 4,
            quick => quick + (took - quick).min(quick / 32),
        };
        QUICK.store(quick, Relaxed);
    }
}

/// What can be found out once and takes long. For threads that have neither lock nor ticket: nobody waits behind them.
pub fn settle() {
    static COUNTED: AtomicBool = AtomicBool::new(false);
    if !Clock::is_calibrated() {
        Clock::compare();
    }
    if !COUNTED.load(Relaxed) && !COUNTED.swap(true, Relaxed) {
        ALONE.store(std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() == 1), Relaxed);
    }
}

/// How long a waiter waits before it blocks: who is first on its CPU spins for as long as being kicked takes, for until then
/// the other CPU may well have switched to the owner; who lets others run blocks when it has done so some times, and for
/// twice as long.
pub fn patience() -> Patience {
    let kick = match QUICK.load(Relaxed) {
        0 => Clock::ticks(KICK),
        quick => quick,
    };
    // With one CPU no other could release the lock meanwhile.
    let (spin, first) = if ALONE.load(Relaxed) { (0, 0) } else { (Clock::ticks(SPIN), kick) };
    Patience { spin, first, yields: YIELDS, yielding: 2 * kick, longest: Clock::ticks(LONGEST) }
}
