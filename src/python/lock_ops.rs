//! The ops of a lock that Python names or writes.

use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyException;
use pyo3::prelude::*;

use crate::error::Error;
use crate::lock::ops::{Backend, Chosen};
use crate::lock::{AtomicU32, Counters, Slots, Want};

thread_local! {
    static RAISED: Cell<Option<PyErr>> = const { Cell::new(None) };
}

/// What ended the op that this thread called last, if that was no mere failure: `KeyboardInterrupt`, say.
pub fn raised() -> Option<PyErr> {
    RAISED.take()
}

/// Ops written in Python: an object with methods `lock_spinning` and `unlock_kick`.
///
/// It knows tickets and no slots, so it is told of each ticket that sleeps in the slot of a kick: as KVM's kick, which
/// looks through the notes of those who wait.
struct Written {
    ops: Py<PyAny>,
    slots: Arc<Slots>,
    sleepers: Mutex<Vec<Want>>,
}

/// Whether a waiter has not been kicked yet: what a `lock_spinning` written in Python calls before it sleeps.
#[pyclass(frozen, module = "pvops._core")]
pub struct Unkicked {
    slots: Arc<Slots>,
    want: Want,
    seen: u32,
}

#[pymethods]
impl Unkicked {
    fn __call__(&self) -> bool {
        self.slots.of(self.want).load(Ordering::Acquire) == self.seen
    }
}

impl Written {
    fn new(ops: Py<PyAny>) -> Written {
        Written { ops, slots: Arc::default(), sleepers: Mutex::default() }
    }

    /// Never held while Python runs.
    fn sleepers(&self) -> MutexGuard<'_, Vec<Want>> {
        self.sleepers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&self, py: Python<'_>, op: &str, arguments: impl for<'py> pyo3::call::PyCallArgs<'py>) {
        let called = self.ops.call_method1(py, op, arguments);
        match called {
            Ok(_) => {}
            // What a signal's handler raised is for who called the lock.
            Err(error) if !error.is_instance_of::<PyException>(py) => RAISED.set(Some(error)),
            // A waiter whose ops fail spins: returning early is always right.
            Err(error) => error.write_unraisable(py, Some(self.ops.bind(py))),
        }
    }
}

impl Backend for Written {
    fn slot(&self, want: Want) -> &AtomicU32 {
        self.slots.of(want)
    }

    fn waited(&self) -> &AtomicU32 {
        self.slots.waited()
    }

    fn lock_spinning(&self, _: &AtomicU32, seen: u32, want: Want) {
        // Noted before it asks whether it has been kicked, so that a kick either finds it or is seen by it.
        self.sleepers().push(want);
        Python::attach(|py| {
            let unkicked = Unkicked { slots: Arc::clone(&self.slots), want, seen };
            self.call(py, "lock_spinning", (want.lock, want.ticket, unkicked));
        });
        let mut sleepers = self.sleepers();
        if let Some(mine) = sleepers.iter().position(|sleeper| *sleeper == want) {
            sleepers.swap_remove(mine);
        }
    }

    fn unlock_kick(&self, word: &AtomicU32, _: Want) {
        let mut kicked = self.sleepers().clone();
        kicked.retain(|sleeper| core::ptr::eq(self.slots.of(*sleeper), word));
        if kicked.is_empty() {
            return;
        }
        Python::attach(|py| {
            for sleeper in kicked {
                self.call(py, "unlock_kick", (sleeper.lock, sleeper.ticket));
            }
        });
    }
}

/// What the ops of a lock point to. Declared after the lock in its object, and so dropped after it.
pub struct Owned {
    written: Option<Box<Written>>,
    pub counters: Option<Box<Counters>>,
}

impl Owned {
    /// Whether the ops are written in Python.
    pub fn is_written(&self) -> bool {
        self.written.is_some()
    }
}

/// The ops that the arguments of a constructor name.
pub fn chosen(waiter: &Bound<'_, PyAny>, counters: bool) -> PyResult<(Chosen, Owned)> {
    let named: Result<String, _> = waiter.extract();
    let mut owned = Owned { written: None, counters: counters.then(Box::default) };
    let mut ops = if let Ok(name) = named {
        Chosen::named(&name).ok_or_else(|| {
            let known = Chosen::NAMES.join(", ");
            Error::ops(format!("no waiter is named {name:?}: {known}, or an object with the two ops"))
        })?
    } else {
        for op in ["lock_spinning", "unlock_kick"] {
            if !waiter.getattr(op).is_ok_and(|method| method.is_callable()) {
                return Err(
                    Error::ops(format!("a waiter needs an op {op}, which this {} lacks", waiter.get_type())).into()
                );
            }
        }
        let written: &Written = owned.written.insert(Box::new(Written::new(waiter.clone().unbind())));
        // SAFETY: the box lives as long as the object that owns the lock, and whoever is in a method of the lock has a
        // reference to that object; the box does not move what is in it.
        let written: &'static Written = unsafe { &*core::ptr::from_ref(written) };
        Chosen::written(written)
    };
    if let Some(counters) = owned.counters.as_deref() {
        // SAFETY: as above.
        ops = ops.counting(unsafe { &*core::ptr::from_ref(counters) });
    }
    Ok((ops, owned))
}
