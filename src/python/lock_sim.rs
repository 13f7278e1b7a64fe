//! `pvops._core.simulate_lock`.

use std::time::Instant;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::{Error, Result};
use crate::lock::sim::{
    self, Distribution, Interrupts, Params, Protocol, Report, Scheduler, Simulation, State, microseconds,
};

/// How many events pass between two looks whether the person has had enough: some 50 ms.
const CHUNK: u64 = 1 << 20;

/// (kind, mean in µs)
type Drawn = (String, f64);

fn distribution(parameter: &str, (kind, mean): &Drawn) -> Result<Distribution> {
    Distribution::by_name(parameter, kind, microseconds(parameter, *mean)?)
}

fn count(parameter: &str, value: i64) -> Result<usize> {
    usize::try_from(value).map_err(|_| Error::lock(format!("{parameter}: {value} is negative")))
}

/// The usual threshold of a protocol in µs; None where it never blocks.
#[pyfunction]
pub fn usual_threshold_us(protocol: &str) -> PyResult<Option<f64>> {
    Ok(Protocol::by_name(protocol)?.usual_threshold_us())
}

/// The names of the protocols and of the schedulers that can be simulated.
#[pyfunction]
pub fn simulated_names() -> (Vec<&'static str>, Vec<&'static str>) {
    (Protocol::ALL.map(Protocol::name).to_vec(), Scheduler::ALL.map(Scheduler::name).to_vec())
}

/// Simulates one case. Without the GIL; a signal ends it.
#[pyfunction]
#[pyo3(signature = (*, protocol, threshold_us, vcpus, pcpus, vms, locks, scheduler, seed, duration, think, hold, slice_us,
                    switch_us, kick_us, exit_us, ple_us, patience_us, irq_interval, irq_hold, ticket_bits, window))]
#[expect(clippy::too_many_arguments, reason = "keywords in Python, each named")]
pub fn simulate_lock<'py>(
    py: Python<'py>,
    protocol: &str,
    threshold_us: Option<f64>,
    vcpus: i64,
    pcpus: i64,
    vms: i64,
    locks: i64,
    scheduler: &str,
    seed: u64,
    duration: f64,
    think: Drawn,
    hold: Drawn,
    slice_us: f64,
    switch_us: f64,
    kick_us: f64,
    exit_us: f64,
    ple_us: Option<f64>,
    patience_us: f64,
    irq_interval: Option<Drawn>,
    irq_hold: Drawn,
    ticket_bits: Option<u32>,
    window: Option<(u64, u64, usize)>,
) -> PyResult<Bound<'py, PyDict>> {
    let interrupts = irq_interval
        .map(|interval| -> Result<Interrupts> {
            let interval = distribution("irq_interval", &interval)?;
            Ok(Interrupts { interval, hold: distribution("irq_hold", &irq_hold)? })
        })
        .transpose()?;
    let params = Params {
        protocol: Protocol::by_name(protocol)?,
        threshold: threshold_us.map(|us| microseconds("threshold_us", us)).transpose()?,
        vcpus: count("vcpus", vcpus)?,
        pcpus: count("pcpus", pcpus)?,
        vms: count("vms", vms)?,
        locks: count("locks", locks)?,
        scheduler: Scheduler::by_name(scheduler)?,
        seed,
        duration: sim::seconds("duration", duration)?,
        think: distribution("think", &think)?,
        hold: distribution("hold", &hold)?,
        slice: microseconds("slice_us", slice_us)?,
        switch: microseconds("switch_us", switch_us)?,
        kick: microseconds("kick_us", kick_us)?,
        exit: microseconds("exit_us", exit_us)?,
        ple: ple_us.map(|us| microseconds("ple_us", us)).transpose()?,
        patience: microseconds("patience_us", patience_us)?,
        interrupts,
        ticket_bits,
    };
    let (report, wall) = py.detach(|| -> PyResult<(Report, f64)> {
        let mut simulation = Simulation::new(&params)?;
        if let Some((from, to, most)) = window {
            simulation = simulation.recording(from, to, most);
        }
        let began = Instant::now();
        while simulation.run(CHUNK) {
            Python::attach(|py| py.check_signals())?;
        }
        let wall = began.elapsed().as_secs_f64();
        Ok((simulation.report(), wall))
    })?;
    outcome(py, &params, &report, wall)
}

fn outcome<'py>(py: Python<'py>, params: &Params, report: &Report, wall: f64) -> PyResult<Bound<'py, PyDict>> {
    let us = |ps: u64| ps as f64 / 1e6;
    let out = PyDict::new(py);
    out.set_item("threshold_us", params.effective_threshold().map(us))?;
    out.set_item("duration", report.duration_seconds())?;
    out.set_item("duration_ps", report.duration)?;
    out.set_item("parts", report.parts_seconds())?;
    out.set_item("parts_ps", report.parts())?;
    out.set_item("think_ps", report.spent[State::Think as usize])?;
    out.set_item("hold_ps", report.spent[State::Hold as usize])?;
    out.set_item("acquisitions", &report.acquisitions)?;
    out.set_item("p50_us", report.waits.quantile(0.5).map(us))?;
    out.set_item("p999_us", report.waits.quantile(0.999).map(us))?;
    out.set_item("max_us", us(report.longest_wait))?;
    out.set_item("waits", report.waits.rows())?;
    out.set_item("fairness", report.fairness())?;
    out.set_item("events", report.events)?;
    out.set_item("wall", wall)?;
    out.set_item("counters", counters(py, report)?)?;
    out.set_item("preempted", report.preempted.map(|p| (p.at, p.vcpu, p.pcpu, p.waiters)))?;
    let span = |s: &sim::Span| (s.vcpu, s.pcpu, State::NAMES[s.state as usize], s.from, s.to);
    out.set_item("spans", report.spans.iter().map(span).collect::<Vec<_>>())?;
    Ok(out)
}

fn counters<'py>(py: Python<'py>, report: &Report) -> PyResult<Bound<'py, PyDict>> {
    let c = &report.counters;
    let out = PyDict::new(py);
    for (name, count) in [
        ("switches", c.switches),
        ("preemptions", c.preemptions),
        ("preempted_holders", c.preempted_holders),
        ("preempted_waiters", c.preempted_waiters),
        ("blocks", c.blocks),
        ("kicks", c.kicks),
        ("late_kicks", c.late_kicks),
        ("direct_hand_offs", c.direct_hand_offs),
        ("pause_loop_exits", c.pause_loop_exits),
        ("interrupts", c.interrupts),
    ] {
        out.set_item(name, count)?;
    }
    Ok(out)
}
