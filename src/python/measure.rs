//! `pvops._core.measure`: what the forms of a call site cost on this CPU.

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
pub use elsewhere::*;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub use here::*;

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
mod elsewhere {
    use pyo3::prelude::*;

    use crate::error::Error;

    /// Says that it cannot.
    #[pyfunction]
    #[pyo3(signature = (seconds, cpu = None, broken = None, progress = None))]
    pub fn measure(
        seconds: f64,
        cpu: Option<usize>,
        broken: Option<&str>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let _ = (seconds, cpu, broken, progress);
        Err(Error::execution("call sites are measured on Linux on x86-64 only").into())
    }
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod here {
    use std::time::Duration;

    use pyo3::prelude::*;

    use crate::error::Error;
    use crate::measure as method;
    use crate::measure::{Broken, Check, Cost, Estimate, Measurement, Options};

    /// Measures for some seconds; see `pvops.bench`. `broken` is for tests of the checks: `subtraction` or `loop`.
    /// `progress` is called between rounds with (milliseconds done, milliseconds asked for); an exception of it ends the
    /// measuring.
    #[pyfunction]
    #[pyo3(signature = (seconds, cpu = None, broken = None, progress = None))]
    pub fn measure(
        py: Python<'_>,
        seconds: f64,
        cpu: Option<usize>,
        broken: Option<&str>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Found> {
        let broken = match broken {
            None => None,
            Some("subtraction") => Some(Broken::Subtraction),
            Some("loop") => Some(Broken::Loop),
            Some(other) => return Err(Error::execution(format!("nothing breaks {other:?}")).into()),
        };
        let mut raised = None;
        let mut tell = |done: Duration, total: Duration| {
            let call = |py: Python<'_>| {
                py.check_signals()?;
                let Some(progress) = &progress else { return Ok(()) };
                progress.call1(py, (done.as_millis() as u64, total.as_millis() as u64)).map(drop)
            };
            Python::attach(call).map_err(|error| {
                raised = Some(error);
                Error::execution("stopped")
            })
        };
        let found = py.detach(|| method::measure(&Options { seconds, cpu, broken }, &mut tell));
        match raised {
            Some(error) => Err(error),
            None => Ok(found?.into()),
        }
    }

    /// A measurement, as a dictionary.
    #[derive(IntoPyObject)]
    pub struct Found {
        forms: Vec<FormCost>,
        checks: Vec<Known>,
        clock: &'static str,
        clock_why: Option<String>,
        cycles_per_tsc: f64,
        tsc_hz: f64,
        cpu: usize,
        rounds: usize,
        disturbed: usize,
    }

    /// What one form costs.
    #[derive(IntoPyObject)]
    struct FormCost {
        form: &'static str,
        site: String,
        text: String,
        inlines: Option<&'static str>,
        native: Option<String>,
        stand_in: Option<String>,
        warm: Range,
        serialised: Range,
        distinct: Range,
        cold_callee: Range,
        cold_branches: Range,
    }

    /// An estimate.
    #[derive(IntoPyObject)]
    struct Range {
        median: f64,
        minimum: f64,
        low: f64,
        high: f64,
    }

    /// A check.
    #[derive(IntoPyObject)]
    struct Known {
        check: &'static str,
        expected: f64,
        measured: f64,
        tolerance: f64,
        holds: bool,
    }

    impl From<Measurement> for Found {
        fn from(found: Measurement) -> Found {
            let Measurement { costs, checks, clock, clock_why, cycles_per_tsc, tsc_hz, cpu, rounds, disturbed } = found;
            let forms = costs.into_iter().map(FormCost::from).collect();
            let checks = checks.into_iter().map(Known::from).collect();
            Found { forms, checks, clock, clock_why, cycles_per_tsc, tsc_hz, cpu, rounds, disturbed }
        }
    }

    impl From<Cost> for FormCost {
        fn from(cost: Cost) -> FormCost {
            let hex = |code: &[u8]| code.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            let inlines = cost.form.inlines();
            FormCost {
                form: cost.form.name(),
                site: hex(&cost.site),
                text: cost.text,
                inlines: inlines.map(|(op, _)| op),
                native: inlines.map(|(_, code)| hex(code)),
                stand_in: cost.form.stand_in().map(hex),
                warm: cost.warm.into(),
                serialised: cost.serialised.into(),
                distinct: cost.distinct.into(),
                cold_callee: cost.cold_callee.into(),
                cold_branches: cost.cold_branches.into(),
            }
        }
    }

    impl From<Estimate> for Range {
        fn from(Estimate { median, minimum, low, high }: Estimate) -> Range {
            Range { median, minimum, low, high }
        }
    }

    impl From<Check> for Known {
        fn from(check: Check) -> Known {
            let holds = check.holds();
            let Check { what, expected, measured, tolerance } = check;
            Known { check: what, expected, measured, tolerance, holds }
        }
    }
}
