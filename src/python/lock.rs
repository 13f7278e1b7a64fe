//! The locks, with the protocol of `threading.Lock`.
//!
//! Nothing here needs the GIL to be sound: a lock's state is atomics, `held` among them, which one `release` alone can
//! take. It keeps what the release needs of the acquisition: so that of a ticket lock loads no word of the lock. With a GIL, an acquisition tries the lock first and lets go of the GIL only if it must wait.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyOverflowError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use super::lock_ops::{Owned, chosen, raised};
use crate::error::Error;
use crate::lock::ops::Chosen;
use crate::lock::{Leave, PvHybridLock, PvTicketLock, RawLock};

/// `blocking` as `threading.Lock` takes it: anything that is true or not.
struct Truth(bool);

impl<'a, 'py> FromPyObject<'a, 'py> for Truth {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Truth> {
        object.is_truthy().map(Truth)
    }
}

/// `threading.TIMEOUT_MAX`, in seconds.
const TIMEOUT_MAX: f64 = 9_223_372_036.0;

/// The timeout of an acquisition: `None` is for ever, zero is no waiting.
fn patience(blocking: bool, timeout: f64) -> PyResult<Option<Duration>> {
    if timeout.is_nan() {
        return Err(PyValueError::new_err("Invalid value NaN (not a number)"));
    }
    if !blocking {
        let given = timeout != -1.0;
        return if given {
            Err(PyValueError::new_err("can't specify a timeout for a non-blocking call"))
        } else {
            Ok(Some(Duration::ZERO))
        };
    }
    if timeout == -1.0 {
        return Ok(None);
    }
    if timeout < 0.0 {
        return Err(PyValueError::new_err("timeout value must be a non-negative number"));
    }
    match Duration::try_from_secs_f64(timeout) {
        Ok(time) if timeout <= TIMEOUT_MAX => Ok(Some(time)),
        _ => Err(PyOverflowError::new_err("timeout value is too large")),
    }
}

/// Waits in the queue, for ever or for a time; a signal whose handler raises ends the wait at once.
fn acquire_for<L: RawLock>(py: Python<'_>, lock: &L, time: Option<Duration>, sleeps_in_python: bool) -> PyResult<bool> {
    let mut error = None;
    let got = py.detach(|| {
        let mut leaves = || {
            error = raised().or_else(|| Python::attach(|py| py.check_signals()).err());
            error.is_some()
        };
        // Python's own code sees signals itself.
        let longest_sleep = if sleeps_in_python { None } else { Some(Duration::from_millis(50)) };
        lock.lock_unless(time, &mut Leave { leaves: &mut leaves, longest_sleep })
    });
    match error {
        None => Ok(got),
        Some(error) => {
            if got {
                // SAFETY: its turn came when it was about to leave: it was acquired, and nobody is told so.
                unsafe { lock.unlock() };
            }
            Err(error)
        }
    }
}

/// What a lock keeps from acquire to release, as a number that is not 0.
trait Kept: Copy {
    fn number(self) -> u64;
    fn of(number: u64) -> Self;
}

impl Kept for u32 {
    fn number(self) -> u64 {
        u64::from(self) + 1
    }

    fn of(number: u64) -> Self {
        (number - 1) as u32
    }
}

impl Kept for () {
    fn number(self) -> u64 {
        1
    }

    fn of(_: u64) -> Self {}
}

macro_rules! lock_class {
    ($(#[$doc:meta])* $name:ident, $raw:ty) => {
        $(#[$doc])*
        #[pyclass(frozen, weakref, module = "pvops._core")]
        pub struct $name {
            lock: $raw,
            held: AtomicU64,
            owned: Owned,
        }

        #[pymethods]
        impl $name {
            #[new]
            #[pyo3(signature = (*, waiter = None, counters = false))]
            fn new(py: Python<'_>, waiter: Option<Bound<'_, PyAny>>, counters: bool) -> PyResult<Self> {
                crate::lock::fence::choose();
                let waiter = match waiter {
                    Some(waiter) => waiter,
                    None => Chosen::DEFAULT.into_pyobject(py)?.into_any(),
                };
                let (ops, owned) = chosen(&waiter, counters)?;
                Ok(Self { lock: <$raw>::with_ops(ops), held: AtomicU64::new(0), owned })
            }

            /// Acquires, in the order of arrival where the lock has one: as `threading.Lock.acquire`, timeout in seconds.
            ///
            /// A signal whose handler raises ends the wait at once. Who gives up leaves the queue: nobody waits for it.
            #[pyo3(
                signature = (blocking = Truth(true), timeout = -1.0),
                text_signature = "($self, blocking=True, timeout=-1.0)"
            )]
            fn acquire(&self, py: Python<'_>, blocking: Truth, timeout: f64) -> PyResult<bool> {
                let patience = patience(blocking.0, timeout)?;
                let got = self.lock.try_lock()
                    || patience.is_none_or(|time| !time.is_zero()) && acquire_for(py, &self.lock, patience, self.owned.is_written())?;
                if got {
                    self.held.store(self.lock.held().number(), Ordering::Release);
                }
                Ok(got)
            }

            /// Releases: as `threading.Lock.release`.
            fn release(&self) -> PyResult<()> {
                let held = self.held.swap(0, Ordering::AcqRel);
                if held == 0 {
                    return Err(PyRuntimeError::new_err("release unlocked lock"));
                }
                // SAFETY: `held` is of an acquisition, and was taken by this call alone.
                unsafe { self.lock.release(Kept::of(held)) };
                // A signal may have come while an op written in Python ran.
                raised().map_or(Ok(()), Err)
            }

            /// What `threading` calls in the child of a fork, where no other thread is.
            fn _at_fork_reinit(&self) {
                // SAFETY: those who held the lock or waited for it are threads of the parent.
                unsafe { self.lock.set_free() };
                self.held.store(0, Ordering::Release);
            }

            /// Whether someone holds it.
            fn locked(&self) -> bool {
                self.lock.is_locked()
            }

            /// Whether someone waits for it.
            #[getter]
            fn contended(&self) -> bool {
                self.lock.is_contended()
            }

            fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
                self.acquire(py, Truth(true), -1.0)
            }

            #[pyo3(signature = (*_exception))]
            fn __exit__(&self, _exception: &Bound<'_, pyo3::types::PyTuple>) -> PyResult<()> {
                self.release()
            }

            /// (spins, slow paths, kicks, waits) since birth; None where counting is off.
            fn counts(&self) -> Option<(u64, u64, u64, u64)> {
                let counts = self.owned.counters.as_ref()?.counts();
                Some((counts.spins, counts.slow_paths, counts.kicks, counts.waits))
            }

            /// Nanoseconds of an acquisition and a release: the mean over n, without a call from Python between them.
            #[pyo3(signature = (n = 100_000))]
            fn pairs(&self, py: Python<'_>, n: u32) -> PyResult<f64> {
                if n == 0 {
                    return Err(Error::lock("pairs: at least one is needed, not 0").into());
                }
                py.detach(|| {
                    let start = Instant::now();
                    for _ in 0..n {
                        self.lock.lock();
                        // SAFETY: it was acquired.
                        unsafe { self.lock.unlock() };
                    }
                    Ok(start.elapsed().as_secs_f64() * 1e9 / f64::from(n))
                })
            }

            fn __repr__(&self) -> String {
                let state = if self.lock.is_locked() { "locked" } else { "unlocked" };
                format!("<{state} pvops.{} object at {:#x}>", stringify!($name), core::ptr::from_ref(self).addr())
            }
        }
    };
}

lock_class!(
    /// The strict FIFO lock: waiters get it in the order of arrival.
    ///
    /// A `threading.Lock` in all that one has: `with`, `Condition`, timeouts, signals, weak references, fork. Its state is
    /// atomics, so that it needs no GIL; but the wheel is of the stable ABI, which builds of Python 3.13 and 3.14 without a
    /// GIL do not load. From source PyO3 builds it for 3.14's and later ones, where it was not tried, and not for 3.13's.
    ///
    /// >>> lock = pvops.TicketLock()
    /// >>> with lock:
    /// ...     lock.locked()
    /// True
    /// >>> lock.acquire(timeout=0.1), lock.acquire(timeout=0.1)
    /// (True, False)
    /// >>> lock.release()
    TicketLock,
    PvTicketLock<Chosen>
);
lock_class!(
    /// The stealing lock: who finds it free has it, and who waits for long is handed it.
    ///
    /// A `threading.Lock` in all that one has: `with`, `Condition`, timeouts, signals, weak references, fork. Its state is
    /// atomics, so that it needs no GIL; but the wheel is of the stable ABI, which builds of Python 3.13 and 3.14 without a
    /// GIL do not load. From source PyO3 builds it for 3.14's and later ones, where it was not tried, and not for 3.13's.
    ///
    /// >>> lock = pvops.HybridLock()
    /// >>> with lock:
    /// ...     lock.locked()
    /// True
    /// >>> lock.acquire(timeout=0.1), lock.acquire(timeout=0.1)
    /// (True, False)
    /// >>> lock.release()
    HybridLock,
    PvHybridLock<Chosen>
);

/// Whether waiters fence for those who release (`membarrier`), or each release for itself.
#[pyfunction]
pub fn lock_asymmetric() -> bool {
    crate::lock::fence::asymmetric()
}
