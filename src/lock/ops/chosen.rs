//! A backend chosen at run time, as a kernel chooses at boot.
#![cfg(not(any(loom, shuttle)))]

use core::time::Duration;

use super::super::counters::Counters;
use super::super::slots::Want;
use super::super::sync::AtomicU32;
#[cfg(target_os = "linux")]
use super::futex::Futex;
use super::interface::{ALWAYS, Patience, Place, PvLockOps};
use super::native::Native;
use super::vcpus::Park;
#[cfg(target_os = "linux")]
use super::vcpus::{EventChannel, Halt};

/// Ops written elsewhere, in Python for instance. They live as long as the process, as ops tables do.
pub trait Backend: Send + Sync {
    /// As [`PvLockOps::slot`].
    fn slot(&self, want: Want) -> &AtomicU32;
    /// As [`PvLockOps::waited`].
    fn waited(&self) -> &AtomicU32 {
        &ALWAYS
    }
    /// As [`PvLockOps::lock_spinning`].
    fn lock_spinning(&self, word: &AtomicU32, seen: u32, want: Want);
    /// As [`PvLockOps::unlock_kick`].
    fn unlock_kick(&self, word: &AtomicU32, next: Want);
}

#[derive(Clone, Copy)]
enum Ops {
    Native(Native),
    Park(Park),
    #[cfg(target_os = "linux")]
    Futex(Futex),
    #[cfg(target_os = "linux")]
    EventChannel(EventChannel),
    #[cfg(target_os = "linux")]
    Halt(Halt),
    Written(&'static dyn Backend),
}

/// One of the backends, and where to count what the lock does, if anywhere.
#[derive(Clone, Copy)]
pub struct Chosen {
    ops: Ops,
    counters: Option<&'static Counters>,
}

impl Chosen {
    /// The names of the backends.
    #[cfg(target_os = "linux")]
    pub const NAMES: &'static [&'static str] = &["native", "park", "futex", "event-channel", "halt"];
    /// The names of the backends.
    #[cfg(not(target_os = "linux"))]
    pub const NAMES: &'static [&'static str] = &["native", "park"];

    /// The name of the backend that a lock has unless told otherwise.
    pub const DEFAULT: &'static str = if cfg!(target_os = "linux") { "futex" } else { "park" };

    /// The backend of this name, if there is one here.
    pub fn named(name: &str) -> Option<Chosen> {
        let ops = match name {
            "native" => Ops::Native(Native),
            "park" => Ops::Park(Park),
            #[cfg(target_os = "linux")]
            "futex" => Ops::Futex(Futex),
            #[cfg(target_os = "linux")]
            "event-channel" => Ops::EventChannel(EventChannel),
            #[cfg(target_os = "linux")]
            "halt" => Ops::Halt(Halt),
            _ => return None,
        };
        Some(Chosen { ops, counters: None })
    }

    /// Ops written elsewhere.
    pub fn written(backend: &'static dyn Backend) -> Chosen {
        Chosen { ops: Ops::Written(backend), counters: None }
    }

    /// The same, counting.
    #[must_use]
    pub fn counting(self, counters: &'static Counters) -> Chosen {
        Chosen { counters: Some(counters), ..self }
    }
}

macro_rules! each {
    ($chosen:expr, $ops:ident => $call:expr, $written:pat => $other:expr) => {
        match $chosen {
            Ops::Native($ops) => $call,
            Ops::Park($ops) => $call,
            #[cfg(target_os = "linux")]
            Ops::Futex($ops) => $call,
            #[cfg(target_os = "linux")]
            Ops::EventChannel($ops) => $call,
            #[cfg(target_os = "linux")]
            Ops::Halt($ops) => $call,
            Ops::Written($written) => $other,
        }
    };
}

impl PvLockOps for Chosen {
    const FIRST_LOOKS: u32 = Park::FIRST_LOOKS;

    #[inline]
    fn slot(&self, want: Want) -> &AtomicU32 {
        each!(&self.ops, ops => ops.slot(want), ops => ops.slot(want))
    }

    #[inline]
    fn waited(&self) -> &AtomicU32 {
        each!(&self.ops, ops => ops.waited(), ops => ops.waited())
    }

    fn lock_spinning(&self, word: &AtomicU32, seen: u32, want: Want) {
        each!(self.ops, ops => ops.lock_spinning(word, seen, want), ops => ops.lock_spinning(word, seen, want));
    }

    fn lock_spinning_for(&self, word: &AtomicU32, seen: u32, want: Want, time: Duration) {
        each!(self.ops, ops => ops.lock_spinning_for(word, seen, want, time), _ => {
            std::thread::sleep(time.min(Duration::from_millis(1)));
        });
    }

    fn unlock_kick(&self, word: &AtomicU32, next: Want) {
        each!(self.ops, ops => ops.unlock_kick(word, next), ops => ops.unlock_kick(word, next));
    }

    fn blocks(&self) -> bool {
        each!(self.ops, ops => ops.blocks(), _ => true)
    }

    fn yield_now(&self) {
        each!(self.ops, ops => ops.yield_now(), _ => std::thread::yield_now());
    }

    fn take_turns(&self) {
        each!(self.ops, ops => ops.take_turns(), _ => Park.take_turns());
    }

    fn settle(&self) {
        each!(self.ops, ops => ops.settle(), _ => Park.settle());
    }

    fn nap(&self, time: Duration) {
        each!(self.ops, ops => ops.nap(time), _ => std::thread::sleep(time));
    }

    fn patience(&self) -> Patience {
        each!(self.ops, ops => ops.patience(), _ => Park.patience())
    }

    fn place(&self, want: Want, distance: u32, looked: Option<u64>) -> Place {
        each!(self.ops, ops => ops.place(want, distance, looked), _ => Park.place(want, distance, looked))
    }

    fn note(&self, want: Want) {
        each!(self.ops, ops => ops.note(want), _ => Park.note(want));
    }

    #[inline]
    fn counters(&self) -> Option<&Counters> {
        self.counters
    }
}
