//! Which waiters share a CPU, so that the one that runs is the one whose turn comes first.
//!
//! Where there are more waiters than CPUs, each lets others run until it gets the lock. Every switch to a thread whose
//! turn has not come is lost (some microseconds), and with N waiters of a strict queue on a CPU up to N - 1 of N are.
//! A waiter can tell: whose turn comes first on its CPU spins, all others let it run. Then a CPU's round of threads
//! follows the queue, a switch each, as long as both have one order; and who finds that they have not asks for it
//! ([`Place::OutOfTurn`]).
//!
//! The notes are hints. One that is old, or of another lock, costs a spin or a switch too many and nothing else.

use super::super::clock::Clock;
use super::super::slots::{PLACES, Want};
use super::super::sync::{AtomicU64, Ordering};
use super::interface::Place;

/// Nobody looks further ahead than this: among so many there is one on the same CPU.
const AHEAD: u32 = 64;

/// Where the owner of each ticket was when it last let others run. Those of 1024 tickets share a place.
///
/// | bits | means |
/// |---|---|
/// | 0–31 | the ticket: a note of another one is void |
/// | 32–41 | the CPU, modulo 1024 |
/// | 42–63 | when, in units of 1024 ticks of [`Clock`] |
static NOTES: [AtomicU64; PLACES] = [const { AtomicU64::new(0) }; PLACES];

const CPU: u64 = 0x3FF << 32;
const TIME: u64 = !0 << 42;

/// A time as in a note. Its difference to another is one too, as long as less than 2³² ticks (1 s) lie between.
fn time(ticks: u64) -> u64 {
    ticks << 32 & TIME
}

/// The CPU that runs this, or ran it a moment ago; as in a note.
fn cpu() -> u64 {
    // SAFETY: the call takes nothing and touches no memory of ours. Where it fails all are on a CPU of that number.
    u64::from(unsafe { libc::sched_getcpu() }.cast_unsigned()) << 32 & CPU
}

/// Notes that this waiter lets others run now.
pub fn note(want: Want) {
    NOTES[want.index()].store(time(Clock::now()) | cpu() | u64::from(want.ticket), Ordering::Relaxed);
}

/// Where this waiter stands among those of its CPU; `looked` is when it last let others run.
pub fn place(want: Want, distance: u32, looked: Option<u64>) -> Place {
    if distance > AHEAD {
        return Place::Behind;
    }
    let here = cpu();
    let noted = |ahead: u32| {
        let other = Want { ticket: want.ticket.wrapping_sub(ahead), ..want };
        let note = NOTES[other.index()].load(Ordering::Relaxed);
        (note & !TIME == here | u64::from(other.ticket)).then_some((ahead, note & TIME))
    };
    let Some((ahead, noted)) = (1..=distance).find_map(noted) else {
        return Place::First;
    };
    let Some(looked) = looked else {
        return Place::Behind;
    };
    let now = time(Clock::now());
    let (its, mine) = (now.wrapping_sub(noted), now.wrapping_sub(time(looked)));
    // In a round that follows the queue it ran just before. If it has not for most of the round, it comes next, and when
    // it has released the lock the whole round passes before the CPU is back here.
    if ahead == 1 && its > mine / 2 { Place::OutOfTurn } else { Place::Behind }
}
