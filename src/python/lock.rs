//! The locks, with the protocol of `threading.Lock`.
//!
//! Nothing here needs the GIL to be sound: a lock's state is atomics, `held` among them, which one `release` alone can
//! take; so the classes are as safe on builds of Python that have no GIL. With one, an acquisition tries the lock first
//! and lets go of the GIL only if it must wait.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyOverflowError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use super::lock_ops::{Owned, chosen};
use crate::error::Error;
use crate::lock::ops::Chosen;
use crate::lock::{PvHybridLock, PvTicketLock, RawLock};

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
        // threading.TIMEOUT_MAX
        Ok(time) if time.as_secs() < 9_223_372_036 => Ok(Some(time)),
        _ => Err(PyOverflowError::new_err("timeout value is too large")),
    }
}

/// Waits in slices, so that a signal (Ctrl-C) is not kept waiting.
fn acquire_for(py: Python<'_>, lock: &impl RawLock, time: Duration) -> PyResult<bool> {
    let deadline = Instant::now().checked_add(time);
    loop {
        let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
        if py.detach(|| lock.try_lock_for(left.min(Duration::from_millis(50)))) {
            return Ok(true);
        }
        if left.is_zero() {
            return Ok(false);
        }
        py.check_signals()?;
    }
}

macro_rules! lock_class {
    ($(#[$doc:meta])* $name:ident, $raw:ty) => {
        $(#[$doc])*
        #[pyclass(frozen, module = "pvops._core")]
        pub struct $name {
            lock: $raw,
            held: AtomicBool,
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
                Ok(Self { lock: <$raw>::with_ops(ops), held: AtomicBool::new(false), owned })
            }

            #[pyo3(signature = (blocking = true, timeout = -1.0), text_signature = "($self, blocking=True, timeout=-1.0)")]
            fn acquire(&self, py: Python<'_>, blocking: bool, timeout: f64) -> PyResult<bool> {
                let patience = patience(blocking, timeout)?;
                let got = self.lock.try_lock()
                    || match patience {
                        None => {
                            py.detach(|| self.lock.lock());
                            true
                        }
                        Some(time) if time.is_zero() => false,
                        Some(time) => acquire_for(py, &self.lock, time)?,
                    };
                if got {
                    self.held.store(true, Ordering::Release);
                }
                Ok(got)
            }

            fn release(&self) -> PyResult<()> {
                if !self.held.swap(false, Ordering::AcqRel) {
                    return Err(PyRuntimeError::new_err("release unlocked lock"));
                }
                // SAFETY: `held` is set by an acquisition alone, and was taken by this call alone.
                unsafe { self.lock.unlock() };
                Ok(())
            }

            fn locked(&self) -> bool {
                self.lock.is_locked()
            }

            #[getter]
            fn contended(&self) -> bool {
                self.lock.is_contended()
            }

            fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
                self.acquire(py, true, -1.0)
            }

            #[pyo3(signature = (*_exception))]
            fn __exit__(&self, _exception: &Bound<'_, pyo3::types::PyTuple>) -> PyResult<()> {
                self.release()
            }

            fn counts(&self) -> Option<(u64, u64, u64, u64)> {
                let counts = self.owned.counters.as_ref()?.counts();
                Some((counts.spins, counts.slow_paths, counts.kicks, counts.waits))
            }

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
                format!("<{state} pvops.{} at {:#x}>", stringify!($name), core::ptr::from_ref(self).addr())
            }
        }
    };
}

lock_class!(
    /// The strict FIFO lock.
    TicketLock,
    PvTicketLock<Chosen>
);
lock_class!(
    /// The stealing lock.
    HybridLock,
    PvHybridLock<Chosen>
);

/// Whether waiters fence for those who release (`membarrier`), or each release for itself.
#[pyfunction]
pub fn lock_asymmetric() -> bool {
    crate::lock::fence::asymmetric()
}
