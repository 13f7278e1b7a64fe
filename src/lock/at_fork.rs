//! Handlers of `fork`: what is locked for some instructions at a time is held by the thread that forks, so that no child
//! inherits it locked by a thread that it does not have. On Linux, where a child of a process with threads is expected to
//! go on with locks (`threading`'s are made free there).
#![cfg(all(target_os = "linux", not(any(loom, shuttle, miri))))]

use core::sync::atomic::{AtomicBool, Ordering};

/// What is called before a fork, and behind it in the parent and in the child, all on the thread that forks (or its copy).
/// Each may be called several times for one fork, and must do nothing from the second time on.
pub struct Handlers {
    pub before: extern "C" fn(),
    pub parent: extern "C" fn(),
    pub child: extern "C" fn(),
    pub watched: AtomicBool,
}

impl Handlers {
    /// Has them called at each fork from now on. Whoever returns from it finds them registered: threads that come at the
    /// same time register them once each, rather than one going on while the other has not done so yet.
    #[inline]
    pub fn watch(&self) {
        if !self.watched.load(Ordering::Acquire) {
            // SAFETY: handlers that take nothing and do not unwind. Of a library that is unloaded glibc forgets them.
            unsafe { libc::pthread_atfork(Some(self.before), Some(self.parent), Some(self.child)) };
            self.watched.store(true, Ordering::Release);
        }
    }
}
