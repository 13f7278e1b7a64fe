//! Backends for the model checkers: a futex on a table with few slots.

use core::time::Duration;
use std::sync::Arc;

#[cfg(loom)]
use loom::sync::{Condvar, Mutex};
#[cfg(shuttle)]
use shuttle::sync::{Condvar, Mutex};

use super::super::left::Left;
use super::super::mutants::{Mutant, planted};
use super::super::slots::{Slots, Want};
use super::super::sync::{AtomicU32, Ordering};
use super::interface::{Place, PvLockOps};
use super::vcpus::{Event, Vcpu};

/// The slots of a model, who sleeps on them, and whose waiters have left: made for an execution, and freed after it.
pub struct Table {
    slots: Slots<Box<[AtomicU32]>>,
    sleepers: Sleepers,
    left: Left,
}

/// Who sleeps on which slot: `FUTEX_WAIT` compares and queues in one step, as under the lock of its hash bucket.
///
/// loom has another thread go on at an access of its own only, and before it: what follows the comparison is of one step
/// with it. Each lock or condition variable more would be a factor in what there is to search.
#[cfg(loom)]
#[derive(Default)]
struct Sleepers(std::sync::Mutex<Vec<(usize, loom::thread::Thread)>>);

#[cfg(loom)]
impl Sleepers {
    fn queue(&self) -> std::sync::MutexGuard<'_, Vec<(usize, loom::thread::Thread)>> {
        self.0.lock().expect("no thread panics with it")
    }

    fn sleep(&self, word: &AtomicU32, seen: u32) {
        if word.fetch_add(0, Ordering::AcqRel) == seen {
            self.queue().push((name(word), loom::thread::current()));
            loom::thread::park();
        }
    }

    fn wake(&self, word: &AtomicU32, most: usize) {
        let mut woken: Vec<_> = self.queue().extract_if(.., |(slot, _)| *slot == name(word)).collect();
        if woken.len() > most {
            self.queue().extend(woken.drain(most..));
        }
        woken.into_iter().for_each(|(_, thread)| thread.unpark());
    }
}

/// A slot's address, as a name.
#[cfg(loom)]
fn name(word: &AtomicU32) -> usize {
    core::ptr::from_ref(word).addr()
}

/// Who sleeps, on whatever slot: shuttle samples, and a lock more costs it nothing.
#[cfg(shuttle)]
#[derive(Default)]
struct Sleepers(Mutex<()>, Condvar);

#[cfg(shuttle)]
impl Sleepers {
    fn sleep(&self, word: &AtomicU32, seen: u32) {
        let guard = self.0.lock().expect("no thread panics with it");
        // FUTEX_WAIT compares under the lock of its hash bucket, once: no loop.
        if word.load(Ordering::Acquire) == seen {
            drop(self.1.wait(guard).expect("no thread panics with it"));
        }
    }

    fn wake(&self, _: &AtomicU32, most: usize) {
        drop(self.0.lock().expect("no thread panics with it"));
        if most == 1 { self.1.notify_one() } else { self.1.notify_all() }
    }
}

impl Table {
    /// With so many slots; with the symmetric fence or without.
    pub fn with_slots(count: u32, symmetric: bool) -> Box<Table> {
        Box::new(Table { slots: Slots::few(count, symmetric), sleepers: Sleepers::default(), left: Left::default() })
    }

    /// The ops that use it.
    ///
    /// # Safety
    /// It outlives every lock with these ops.
    pub unsafe fn ops(&self) -> Model {
        // SAFETY: the caller's promise; the box does not move what is in it.
        Model { table: unsafe { &*core::ptr::from_ref(self) }, place: Place::Behind }
    }
}

/// A futex over a table of few slots.
#[derive(Clone, Copy)]
pub struct Model {
    table: &'static Table,
    place: Place,
}

impl Model {
    /// The same, where every waiter asks to be let run at the release.
    #[must_use]
    pub fn asking(self) -> Model {
        Model { place: Place::OutOfTurn, ..self }
    }
}

impl PvLockOps for Model {
    fn slot(&self, want: Want) -> &AtomicU32 {
        self.table.slots.get(want)
    }

    fn waited(&self) -> &AtomicU32 {
        self.table.slots.waited()
    }

    fn lock_spinning(&self, word: &AtomicU32, seen: u32, _: Want) {
        self.table.sleepers.sleep(word, seen);
    }

    fn left(&self) -> &Left {
        &self.table.left
    }

    fn place(&self, _: Want, _: u32, _: Option<u64>) -> Place {
        self.place
    }

    fn unlock_kick(&self, word: &AtomicU32, _: Want) {
        self.table.sleepers.wake(word, if planted(Mutant::OneSlotForAll) { 1 } else { usize::MAX });
    }
}

/// An event channel of the model.
pub struct Channel(Mutex<bool>, Condvar);

impl Event for Channel {
    fn of_this_cpu() -> Self {
        Channel(Mutex::new(false), Condvar::new())
    }

    fn poll(&self, _: Option<Duration>) {
        let mut pending = self.0.lock().expect("no thread panics with it");
        while !*pending {
            pending = self.1.wait(pending).expect("no thread panics with it");
        }
        *pending = false;
    }

    fn send(&self) {
        *self.0.lock().expect("no thread panics with it") = true;
        self.1.notify_one();
    }
}

/// A CPU on which an interrupt may come between noting what it spins on and blocking.
#[derive(Clone)]
pub struct Interruptible(Arc<Vcpu<Channel>>);

impl Interruptible {
    /// A CPU that spins on nothing.
    pub fn new() -> Interruptible {
        Interruptible(Arc::new(Vcpu::new(Channel::of_this_cpu())))
    }

    /// Blocks while the word is as seen, with this interrupt in between.
    pub fn spin_on(&self, word: &AtomicU32, seen: u32, interrupt: impl FnOnce()) {
        self.0.spin_on(word, seen, None, interrupt);
    }

    /// Kicks it if it spins on this word.
    pub fn kick(&self, word: &AtomicU32) {
        super::super::fence::full();
        self.0.kick(word);
    }
}
