//! The locks, with the protocol of `threading.Lock`, and the harness that measures them.
//!
//! Nothing here needs the GIL to be sound: a lock's state is atomics, `held` among them, which one `release` alone can
//! take; so the classes are as safe on builds of Python that have no GIL. With one, an acquisition tries the lock first
//! and lets go of the GIL only if it must wait.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyOverflowError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::error::Error;
use crate::lock::ops::{Backend, Chosen};
use crate::lock::{AtomicU32, Counters, PvHybridLock, PvTicketLock, RawLock, Slots, Want};

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
        // A waiter whose ops fail spins: returning early is always right.
        called.map_or_else(|error| error.write_unraisable(py, Some(self.ops.bind(py))), drop);
    }
}

impl Backend for Written {
    fn slot(&self, want: Want) -> &AtomicU32 {
        self.slots.of(want)
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
struct Owned {
    written: Option<Box<Written>>,
    counters: Option<Box<Counters>>,
}

/// The ops that the arguments of a constructor name.
fn chosen(waiter: &Bound<'_, PyAny>, counters: bool) -> PyResult<(Chosen, Owned)> {
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

/// The locks that the harness knows, by their Rust paths, ours first.
#[pyfunction]
pub fn lock_bench_names() -> Vec<&'static str> {
    harness::names()
}

/// Nanoseconds of an uncontended pair: the mean over so many.
#[pyfunction]
pub fn lock_bench_pair(py: Python<'_>, name: &str, pairs: u32) -> PyResult<f64> {
    Ok(py.detach(|| harness::pair(name, pairs))?)
}

/// A lock shared by threads, which hold it and pause for so many nanoseconds, measured for so many seconds after so
/// many: (ops a second, wait p50, p99.9 and longest in µs, fairness).
#[pyfunction]
pub fn lock_bench_contend(
    py: Python<'_>,
    name: &str,
    threads: usize,
    cpus: Vec<usize>,
    work_ns: (u64, u64),
    seconds: (f64, f64),
) -> PyResult<(f64, f64, f64, f64, f64)> {
    Ok(py.detach(|| harness::contend(name, threads, cpus, work_ns, seconds))?)
}

/// The machine's limits in nanoseconds: (locked xadd and store, futex hand-over on one CPU, to another CPU).
#[pyfunction]
pub fn lock_bench_limits(py: Python<'_>, cpus: Vec<usize>, seconds: f64) -> PyResult<(f64, f64, f64)> {
    Ok(py.detach(|| harness::limits(&cpus, seconds))?)
}

#[cfg(all(feature = "peers", target_os = "linux"))]
mod harness {
    use std::time::Duration;

    use crate::error::{Error, Result};
    use crate::lock::bench::{Case, Contender, Limits, NAMES, contender};

    fn named(name: &str) -> Result<Contender> {
        contender(name).ok_or_else(|| Error::lock(format!("no lock is named {name:?}: {}", NAMES.join(", "))))
    }

    fn time(name: &str, seconds: f64) -> Result<Duration> {
        match Duration::try_from_secs_f64(seconds) {
            Ok(time) if time <= Duration::from_secs(3600) => Ok(time),
            _ => Err(Error::lock(format!("{name}: {seconds} s is no time from 0 to an hour"))),
        }
    }

    pub fn names() -> Vec<&'static str> {
        NAMES.to_vec()
    }

    pub fn pair(name: &str, pairs: u32) -> Result<f64> {
        if pairs == 0 {
            return Err(Error::lock("pairs: at least one is needed, not 0"));
        }
        Ok((named(name)?.pair)(pairs).ns)
    }

    pub fn contend(
        name: &str,
        threads: usize,
        cpus: Vec<usize>,
        (section_ns, pause_ns): (u64, u64),
        (seconds, warm_up): (f64, f64),
    ) -> Result<(f64, f64, f64, f64, f64)> {
        let lock = named(name)?;
        if !(1..=1024).contains(&threads) {
            return Err(Error::lock(format!("threads: {threads}, where 1 to 1024 are possible")));
        }
        if cpus.is_empty() {
            return Err(Error::lock("cpus: at least one is needed"));
        }
        if section_ns.max(pause_ns) > 1_000_000_000 {
            return Err(Error::lock("section and pause: at most a second each"));
        }
        let (time, warm_up) = (time("seconds", seconds)?, time("warm_up", warm_up)?);
        let case = Case { threads, cpus, section_ns, pause_ns, time, warm_up };
        let found = (lock.contend)(&case).map_err(Error::lock)?;
        Ok((found.ops_per_second, found.wait_p50_us, found.wait_p999_us, found.wait_max_us, found.fairness))
    }

    pub fn limits(cpus: &[usize], seconds: f64) -> Result<(f64, f64, f64)> {
        let limits = Limits::measure(cpus, time("seconds", seconds)?);
        Ok((limits.raw_pair_ns, limits.futex_same_cpu_ns, limits.futex_cross_cpu_ns))
    }
}

#[cfg(not(all(feature = "peers", target_os = "linux")))]
mod harness {
    use crate::error::{Error, Result};

    fn absent<T>() -> Result<T> {
        Err(Error::lock("this build has no locks of others to measure beside (cargo feature peers, Linux)"))
    }

    pub fn names() -> Vec<&'static str> {
        Vec::new()
    }

    pub fn pair(_: &str, _: u32) -> Result<f64> {
        absent()
    }

    pub fn contend(
        _: &str,
        _: usize,
        _: Vec<usize>,
        _: (u64, u64),
        _: (f64, f64),
    ) -> Result<(f64, f64, f64, f64, f64)> {
        absent()
    }

    pub fn limits(_: &[usize], _: f64) -> Result<(f64, f64, f64)> {
        absent()
    }
}
