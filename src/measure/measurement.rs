//! How to measure, and what a measurement finds.

use super::form::Form;
use super::statistics::Estimate;

/// How to measure.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Seconds that rounds go on; up to three times as long where too few of them are undisturbed.
    pub seconds: f64,
    /// The CPU to run on; the one this thread is on where none is given.
    pub cpu: Option<usize>,
    /// For tests of the checks: what is to be wrong with the method.
    pub broken: Option<Broken>,
}

/// A fault in the method, which the checks must notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// The program with n sites is not subtracted.
    Subtraction,
    /// Loops run once, as if a compiler had folded them.
    Loop,
}

/// What one form costs.
#[derive(Debug, Clone)]
pub struct Cost {
    /// The form.
    pub form: Form,
    /// What stands at a site: the bytes the passes left.
    pub site: Vec<u8>,
    /// The same, disassembled.
    pub text: String,
    /// Throughput.
    pub warm: Estimate,
    /// Latency, between fences.
    pub serialised: Estimate,
    /// Among 4,096 sites, once each, with a predictor that is full of other branches.
    pub distinct: Estimate,
    /// With what it calls, and the pointer it calls through, in no cache.
    pub cold_callee: Estimate,
    /// With a predictor that has forgotten it.
    pub cold_branches: Estimate,
}

/// Something known, measured by the same method.
#[derive(Debug, Clone)]
pub struct Check {
    /// What.
    pub what: &'static str,
    /// What it must be.
    pub expected: f64,
    /// What it was.
    pub measured: f64,
    /// How far off it may be, in the same unit.
    pub tolerance: f64,
}

impl Check {
    /// Whether it holds.
    pub fn holds(&self) -> bool {
        (self.measured - self.expected).abs() <= self.tolerance
    }
}

/// A whole measurement.
#[derive(Debug, Clone)]
pub struct Measurement {
    /// One for each of [`super::FORMS`].
    pub costs: Vec<Cost>,
    /// What the method was held to.
    pub checks: Vec<Check>,
    /// What was counted.
    pub clock: &'static str,
    /// Why not core cycles, where they were not.
    pub clock_why: Option<String>,
    /// Core cycles in a tick of the time-stamp counter.
    pub cycles_per_tsc: f64,
    /// Ticks of the time-stamp counter in a second.
    pub tsc_hz: f64,
    /// The CPU.
    pub cpu: usize,
    /// Rounds that count.
    pub rounds: usize,
    /// Rounds that were disturbed.
    pub disturbed: usize,
}
