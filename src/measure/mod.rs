//! What the forms of a call site cost on the CPU this runs on, in core cycles.
//!
//! ```text
//! form → region: sites, tables → 6.1's passes → executable memory → rounds → estimates, and checks of the method
//! ```
//!
//! The method is nanoBench's (Abel, Reineke, ISPASS 2020): a program with n sites and one with 2n are timed and subtracted, so
//! that the loop and the reading of the clock drop out. A round times every form once in every way; rounds go on for the
//! time given. What the slot costs without a site is subtracted too.
//!
//! | way | the sites | tells |
//! |---|---|---|
//! | warm | 32 and 64 back to back, in a loop | throughput, everything predicted |
//! | serialised | the same, a fence behind each | latency, nothing overlaps |
//! | distinct | 4,096, 128 bytes apart, calling 64 ops in turn, after 65,536 other branches | what a kernel's code meets: the predictor is full of others |
//! | cold callee | 64, once each, after the ops, thunks and functions were flushed from all caches | what a first call waits for |
//! | cold branches | 64, once each, after the predictor met 65,536 other branches | what a branch unheard of costs |
//!
//! A round whose yardstick (10,000 additions in one chain) moved while it ran was disturbed and does not count. Of the
//! readings in the others those count which a quiet core gave: nops before and after each show whether another thread had a
//! part of the core, as the neighbour of a virtual CPU often has. [`Check`]s hold the whole method to what is known: dependent additions take one cycle, multiplications
//! three, twice as many take twice as long, and an empty slot nothing.

mod assemble;
mod clock;
mod estimates;
pub mod form;
mod region;
mod rounds;
mod statistics;
mod yardsticks;

pub use estimates::measure;
pub use form::{FORMS, Form};
pub use statistics::Estimate;

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
    /// One for each of [`FORMS`].
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
