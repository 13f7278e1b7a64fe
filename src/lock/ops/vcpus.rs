//! Backends that keep, as Xen and KVM do, a note per virtual CPU of what it spins on; the kicker scans the notes.
//!
//! A thread stands for a virtual CPU. Order as in `kvm_lock_spinning()`: note first, then a full fence, then the last
//! look; the kicker changes the word first, then scans. A lock taken in an interrupt overwrites the note of the one that
//! the CPU was spinning on; it must put it back, and leave the event pending for it (168d2f464ab9).

use core::time::Duration;

use super::super::fence;
use super::super::mutants::{Mutant, planted};
use super::super::sync::{self, AtomicU32, Ordering};

/// What a virtual CPU waits for: an event that stays pending until it is seen.
pub trait Event: Send + Sync + 'static {
    /// The calling thread's.
    fn of_this_cpu() -> Self;
    /// Blocks until the event is pending, and takes it; or until the time has passed, or earlier.
    fn poll(&self, longest: Option<Duration>);
    /// Makes it pending.
    fn send(&self);
}

/// A virtual CPU, as its waiters and kickers see it.
pub struct Vcpu<E> {
    /// The address of the word it spins on, or 0.
    spinning_on: sync::AtomicU64,
    event: E,
}

impl<E> Vcpu<E> {
    pub fn new(event: E) -> Vcpu<E> {
        Vcpu { spinning_on: sync::AtomicU64::new(0), event }
    }
}

fn note(word: &AtomicU32) -> u64 {
    core::ptr::from_ref(word).addr() as u64
}

impl<E: Event> Vcpu<E> {
    /// Blocks while `word` is `seen`, at most so long. `interrupt` is what comes in between: nothing, or a model's nested
    /// lock.
    pub fn spin_on(&self, word: &AtomicU32, seen: u32, longest: Option<Duration>, interrupt: impl FnOnce()) {
        let previous = self.spinning_on.swap(note(word), Ordering::AcqRel);
        fence::full();
        if word.load(Ordering::Acquire) == seen {
            interrupt();
            self.event.poll(longest);
        }
        if planted(Mutant::NestedInterruptSlot) {
            self.spinning_on.store(0, Ordering::Release);
            return;
        }
        self.spinning_on.store(previous, Ordering::Release);
        if previous != 0 {
            // The event just taken may have been for that one.
            self.event.send();
        }
    }

    /// Wakes it, if it spins on `word`.
    pub fn kick(&self, word: &AtomicU32) {
        if self.spinning_on.load(Ordering::Acquire) == note(word) {
            self.event.send();
        }
    }
}

#[cfg(not(any(loom, shuttle)))]
mod registered {
    use core::time::Duration;
    use std::cell::RefCell;
    use std::sync::{Arc, PoisonError, RwLock, Weak};
    #[cfg(all(target_os = "linux", not(miri)))]
    use std::{cell::Cell, sync::RwLockWriteGuard, sync::atomic::AtomicBool};

    #[cfg(all(target_os = "linux", not(miri)))]
    use super::super::super::at_fork::Handlers;
    use super::super::super::clock::Clock;
    use super::super::super::slots::{Slots, Want};
    use super::super::interface::PvLockOps;
    use super::super::{costs, threads};
    use super::{AtomicU32, Event, Ordering, Vcpu, fence};

    /// The virtual CPUs that ever blocked; one whose thread ended is dropped when the next comes up.
    pub struct Online<E> {
        cpus: RwLock<Vec<Weak<Vcpu<E>>>>,
        /// How many forks lie between the first process and this one: a thread's virtual CPU is of one process. (A child
        /// would share an `eventfd` with its parent, and each take the other's events.)
        process: AtomicU32,
    }

    /// A thread's virtual CPU, and of which process.
    pub type This<E> = RefCell<Option<(u32, Arc<Vcpu<E>>)>>;
    #[cfg(all(target_os = "linux", not(miri)))]
    pub type Held<E> = RwLockWriteGuard<'static, Vec<Weak<Vcpu<E>>>>;

    impl<E: Event> Online<E> {
        pub const fn none() -> Self {
            Online { cpus: RwLock::new(Vec::new()), process: AtomicU32::new(0) }
        }

        /// The calling thread's.
        pub fn this(&self, this: &This<E>) -> Arc<Vcpu<E>> {
            let process = self.process.load(Ordering::Relaxed);
            if let Some((of, cpu)) = &*this.borrow()
                && *of == process
            {
                return Arc::clone(cpu);
            }
            let cpu = Arc::new(Vcpu::new(E::of_this_cpu()));
            let mut online = self.cpus.write().unwrap_or_else(PoisonError::into_inner);
            online.retain(|cpu| cpu.strong_count() > 0);
            online.push(Arc::downgrade(&cpu));
            drop(online);
            this.replace(Some((process, Arc::clone(&cpu))));
            cpu
        }

        /// Before a fork: nobody else has the list while it lasts.
        #[cfg(all(target_os = "linux", not(miri)))]
        pub fn hold(&'static self) -> Held<E> {
            self.cpus.write().unwrap_or_else(PoisonError::into_inner)
        }

        /// In the child of a fork: no thread has a virtual CPU.
        #[cfg(all(target_os = "linux", not(miri)))]
        pub fn forked(&self, mut held: Held<E>) {
            held.clear();
            self.process.fetch_add(1, Ordering::Relaxed);
        }

        pub fn kick(&self, word: &AtomicU32) {
            fence::full();
            let online = self.cpus.read().unwrap_or_else(PoisonError::into_inner);
            online.iter().filter_map(Weak::upgrade).for_each(|cpu| cpu.kick(word));
        }
    }

    macro_rules! backend {
        ($(#[$doc:meta])* $name:ident, $event:ty) => {
            $(#[$doc])*
            #[derive(Debug, Clone, Copy, Default)]
            pub struct $name;

            const _: () = {
                static ONLINE: Online<$event> = Online::none();
                static SLOTS: Slots = Slots::new();
                std::thread_local! {
                    static THIS: This<$event> = const { RefCell::new(None) };
                }

                /// No child inherits the list locked.
                #[cfg(all(target_os = "linux", not(miri)))]
                static HANDLERS: Handlers = {
                    std::thread_local! {
                        static HELD: Cell<Option<Held<$event>>> = const { Cell::new(None) };
                    }
                    extern "C" fn before() {
                        let _ = HELD.try_with(|held| held.set(held.take().or_else(|| Some(ONLINE.hold()))));
                    }
                    extern "C" fn parent() {
                        let _ = HELD.try_with(|held| held.set(None));
                    }
                    extern "C" fn child() {
                        let _ = HELD.try_with(|held| held.take().map(|held| ONLINE.forked(held)));
                    }
                    Handlers { before, parent, child, watched: AtomicBool::new(false) }
                };

                #[inline]
                fn watch() {
                    #[cfg(all(target_os = "linux", not(miri)))]
                    HANDLERS.watch();
                }

                fn this() -> Arc<Vcpu<$event>> {
                    watch();
                    THIS.with(|this| ONLINE.this(this))
                }

                impl PvLockOps for $name {
                    #[inline]
                    fn slot(&self, want: Want) -> &AtomicU32 {
                        SLOTS.of(want)
                    }

                    #[inline]
                    fn waited(&self) -> &AtomicU32 {
                        SLOTS.waited()
                    }

                    fn lock_spinning(&self, word: &AtomicU32, seen: u32, _: Want) {
                        let slept = Clock::now();
                        this().spin_on(word, seen, None, || ());
                        costs::woke(word, slept);
                    }

                    fn lock_spinning_for(&self, word: &AtomicU32, seen: u32, _: Want, time: Duration) {
                        let slept = Clock::now();
                        this().spin_on(word, seen, Some(time), || ());
                        costs::woke(word, slept);
                    }

                    fn unlock_kick(&self, word: &AtomicU32, _: Want) {
                        costs::kicks(word);
                        watch();
                        ONLINE.kick(word);
                    }

                    threads::of_threads!();
                }
            };
        };
    }

    backend!(
        /// Parks the thread: what every system offers.
        Park,
        std::thread::Thread
    );

    impl Event for std::thread::Thread {
        fn of_this_cpu() -> Self {
            std::thread::current()
        }

        fn poll(&self, longest: Option<Duration>) {
            match longest {
                None => std::thread::park(),
                Some(time) => std::thread::park_timeout(time),
            }
        }

        fn send(&self) {
            self.unpark();
        }
    }

    #[cfg(target_os = "linux")]
    backend!(
        /// As Xen's `xen_lock_spinning()` and `xen_unlock_kick()`: a CPU polls its event channel (an `eventfd`).
        EventChannel,
        super::eventfd::Channel
    );

    #[cfg(target_os = "linux")]
    backend!(
        /// As KVM's `kvm_lock_spinning()` and `kvm_kick_cpu()`: a CPU halts; a kick that comes before is not lost.
        Halt,
        super::halt::Halted
    );
}

#[cfg(not(any(loom, shuttle)))]
pub use registered::Park;
#[cfg(all(target_os = "linux", not(any(loom, shuttle))))]
pub use registered::{EventChannel, Halt};

#[cfg(all(target_os = "linux", not(any(loom, shuttle))))]
mod eventfd {
    use core::time::Duration;
    use std::io::{Read, Write};
    use std::os::fd::{AsRawFd, FromRawFd};

    /// An event channel: an `eventfd`, or, where there are no descriptors left, no channel (its CPU spins).
    pub struct Channel(Option<std::fs::File>);

    /// Waits until an event is pending, at most so long.
    fn becomes_readable(channel: &std::fs::File, time: Duration) -> bool {
        let mut asked = libc::pollfd { fd: channel.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // A millisecond more rather than none: less than one would not be a wait.
        let ms = libc::c_int::try_from(time.as_millis() + 1).unwrap_or(libc::c_int::MAX);
        // SAFETY: one structure, which outlives the call.
        unsafe { libc::poll(&raw mut asked, 1, ms) == 1 }
    }

    impl super::Event for Channel {
        fn of_this_cpu() -> Self {
            // SAFETY: two integers; the kernel gives a new descriptor or -1.
            let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
            // SAFETY: the descriptor is open, and nobody else's.
            Channel((fd >= 0).then(|| unsafe { std::fs::File::from_raw_fd(fd) }))
        }

        fn poll(&self, longest: Option<Duration>) {
            match self.0.as_ref() {
                Some(mut channel) => {
                    if longest.is_none_or(|time| becomes_readable(channel, time)) {
                        let _ = channel.read(&mut [0; 8]);
                    }
                }
                None => std::thread::yield_now(),
            }
        }

        fn send(&self) {
            if let Some(mut channel) = self.0.as_ref() {
                let _ = channel.write(&1_u64.to_ne_bytes());
            }
        }
    }
}

#[cfg(all(target_os = "linux", not(any(loom, shuttle))))]
mod halt {
    use core::time::Duration;

    use super::{AtomicU32, Ordering};

    /// 1 while a kick is pending.
    pub struct Halted(AtomicU32);

    impl super::Event for Halted {
        fn of_this_cpu() -> Self {
            Halted(AtomicU32::new(0))
        }

        fn poll(&self, longest: Option<Duration>) {
            // A halt that ends without a kick, by a signal, is one that returns early.
            if self.0.swap(0, Ordering::Acquire) == 0 {
                super::super::futex::wait(&self.0, 0, longest);
                self.0.swap(0, Ordering::Acquire);
            }
        }

        fn send(&self) {
            self.0.store(1, Ordering::Release);
            super::super::futex::wake(&self.0, 1);
        }
    }
}
