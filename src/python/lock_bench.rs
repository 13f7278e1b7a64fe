//! The harness that measures locks.

use pyo3::prelude::*;

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

/// In which mode the machine is: nanoseconds for a cache line to go from the first of these CPUs to the second.
#[pyfunction]
pub fn lock_bench_mode(py: Python<'_>, cpus: Vec<usize>, seconds: f64) -> PyResult<f64> {
    Ok(py.detach(|| harness::mode(&cpus, seconds))?)
}

#[cfg(all(feature = "peers", target_os = "linux"))]
mod harness {
    use std::time::Duration;

    use crate::error::{Error, Result};
    use crate::lock::bench::{Case, Contender, Limits, NAMES, contender, mode_ns};

    fn named(name: &str) -> Result<Contender> {
        contender(name).ok_or_else(|| Error::lock(format!("no lock is named {name:?}: {}", NAMES.join(", "))))
    }

    fn time(name: &str, seconds: f64) -> Result<Duration> {
        match Duration::try_from_secs_f64(seconds) {
            Ok(time) if time <= Duration::from_secs(3600) => Ok(time),
            _ => Err(Error::lock(format!("{name}: {seconds:?} s is no time from 0 to an hour"))),
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

    pub fn mode(cpus: &[usize], seconds: f64) -> Result<f64> {
        Ok(mode_ns(cpus, time("seconds", seconds)?))
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

    pub fn mode(_: &[usize], _: f64) -> Result<f64> {
        absent()
    }
}
