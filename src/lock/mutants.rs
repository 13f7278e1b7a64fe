//! Known bugs of the locks here and of those they descend from, planted with `--cfg mutants` to try the model checkers.

/// A known bug of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// The unlocker looks for a waiter before it releases.
    KickBeforeRelease,
    /// Nothing orders the unlocker's look after its release (Linux 2496afbf1e50).
    MissingFence,
    /// A waiter clears the flag that other waiters rely on.
    WrongHandClears,
    /// A waiter looks at the lock for the last time, and only then says that it waits.
    PublishAfterLook,
    /// A waiter says that it waits, and sleeps without another look.
    NoLookAfterPublish,
    /// A waiter looks at the lock for the last time, and only then says that slots have to be looked at.
    AnnounceAfterLook,
    /// The kicker wakes the waiter before it clears the flag.
    WakeBeforeClear,
    /// A nested interrupt overwrites the CPU's note of what it spins on (Linux 168d2f464ab9).
    NestedInterruptSlot,
    /// The unlocker looks at the lock after it released it (Linux 3.12, repaired by d6abfdb20223).
    TouchAfterRelease,
    /// A kick wakes one of the waiters that share a slot, whichever that is.
    OneSlotForAll,
    /// A waiter says that it leaves, and leaves without another look: its turn may have come.
    LeaveWithoutLook,
    /// The unlocker does not pass over the ticket of a waiter that left.
    NobodySkips,
    /// A waiter that left takes its turn after all, and the unlocker passes over it too.
    LeaveAndEnter,
}

impl Mutant {
    /// All of them, with their names.
    pub const ALL: [(Mutant, &'static str); 13] = [
        (Mutant::KickBeforeRelease, "kick-before-release"),
        (Mutant::MissingFence, "missing-fence"),
        (Mutant::WrongHandClears, "wrong-hand-clears"),
        (Mutant::PublishAfterLook, "publish-after-look"),
        (Mutant::NoLookAfterPublish, "no-look-after-publish"),
        (Mutant::AnnounceAfterLook, "announce-after-look"),
        (Mutant::WakeBeforeClear, "wake-before-clear"),
        (Mutant::NestedInterruptSlot, "nested-interrupt-slot"),
        (Mutant::TouchAfterRelease, "touch-after-release"),
        (Mutant::OneSlotForAll, "one-slot-for-all"),
        (Mutant::LeaveWithoutLook, "leave-without-look"),
        (Mutant::NobodySkips, "nobody-skips"),
        (Mutant::LeaveAndEnter, "leave-and-enter"),
    ];
}

#[cfg(mutants)]
std::thread_local! {
    // The checkers run the threads of a model on one thread of the machine.
    static PLANTED: core::cell::Cell<Option<Mutant>> = const { core::cell::Cell::new(None) };
}

/// Whether this bug is planted. Without `--cfg mutants` it never is, and no code of it is left.
#[cfg(not(mutants))]
#[inline(always)]
pub const fn planted(_: Mutant) -> bool {
    false
}

/// Whether this bug is planted.
#[cfg(mutants)]
pub fn planted(mutant: Mutant) -> bool {
    PLANTED.get() == Some(mutant)
}

/// Runs `body` with a bug planted.
#[cfg(mutants)]
pub fn with<R>(mutant: Option<Mutant>, body: impl FnOnce() -> R) -> R {
    struct Restored(Option<Mutant>);
    impl Drop for Restored {
        fn drop(&mut self) {
            PLANTED.set(self.0);
        }
    }
    let _restored = Restored(PLANTED.replace(mutant));
    body()
}
