//! What the readings come to: estimates, and the checks of the method.

use std::time::Duration;

use super::clock::{Pinned, tsc_frequency};
use super::region::UNROLLED;
use super::rounds::{Bench, PAIRS, Progress, QUIET, Reading, Readings, Rounds, TURNS};
use super::statistics::{Estimate, median};
use super::{Check, Cost, Measurement, Options};
use crate::error::{Error, Result};
use crate::image::Bits;
use crate::insn;

/// The longest that may be asked for, in seconds.
const LONGEST: f64 = 600.0;

/// Measures every form. `progress` is called between rounds, where it disturbs no reading.
///
/// Fails where code made here may not run, where the CPU asked for is not there, where nothing but disturbed rounds were to
/// be had, and where `progress` does.
pub fn measure(options: &Options, progress: Progress<'_>) -> Result<Measurement> {
    if !(options.seconds > 0.0 && options.seconds <= LONGEST) {
        return Err(Error::execution(format!(
            "{:?} seconds of measuring; more than 0, at most {LONGEST}",
            options.seconds
        )));
    }
    let pinned = Pinned::to(options.cpu).map_err(|why| match options.cpu {
        Some(cpu) => Error::execution(format!("cannot run on CPU {cpu} alone: {why}")),
        None => Error::execution(format!("cannot stay on one CPU: {why}")),
    })?;
    let bench = Bench::new(options.broken)?;
    let rounds = bench.run(Duration::from_secs_f64(options.seconds), progress)?;
    let cycles_per_tsc = bench.cycles_in_tsc(rounds.rate);
    let tsc_hz = tsc_frequency();
    let estimates = Estimates { bench: &bench, rounds: &rounds };
    Ok(Measurement {
        costs: (1..bench.forms.len()).map(|index| estimates.cost(index)).collect(),
        checks: estimates.checks(cycles_per_tsc * tsc_hz),
        clock: bench.clock.name(),
        clock_why: bench.clock.why_not.clone(),
        cycles_per_tsc,
        tsc_hz,
        cpu: pinned.cpu,
        rounds: rounds.count,
        disturbed: rounds.disturbed,
    })
}

/// Readings on the way to estimates.
struct Estimates<'a> {
    bench: &'a Bench,
    rounds: &'a Rounds,
}

impl Estimates<'_> {
    /// What the method is held to: what is known, measured by it.
    fn checks(&self, core_hz: f64) -> Vec<Check> {
        let n = UNROLLED as f64;
        let cycles = |index: usize| self.median(&self.rounds.yards[index], TURNS as f64).0;
        let within =
            |what, expected: f64, measured, share: f64| Check { what, expected, measured, tolerance: share * expected };
        let [add, adds, imul, imuls] = [0, 1, 2, 3].map(cycles);
        // A whole empty program, against what it takes before anything is subtracted.
        let (whole, left) = self.empty();
        let ghz = core_hz / 1e9;
        vec![
            within("32 dependent additions, in cycles", n, add, 0.05),
            within("64 dependent additions, in cycles", 2.0 * n, adds, 0.05),
            within("32 dependent multiplications, in cycles", 3.0 * n, imul, 0.05),
            within("64 dependent multiplications, in cycles", 6.0 * n, imuls, 0.05),
            Check {
                what: "an empty slot, as a part of its program",
                expected: 0.0,
                measured: left / whole,
                tolerance: 0.1,
            },
            Check { what: "the core's clock, in GHz", expected: 4.0, measured: ghz, tolerance: 3.7 },
        ]
    }

    /// Ticks of an empty program, and what is left of them when n is subtracted from 2n.
    fn empty(&self) -> (f64, f64) {
        let quiet: Vec<_> = quiet(&self.rounds.forms[1][0]).collect();
        let mut whole: Vec<_> = quiet.iter().map(|r| r.first).collect();
        let mut left: Vec<_> = quiet.iter().map(|r| self.bench.difference(r.first, r.second, 1.0)).collect();
        (median(&mut whole).0, median(&mut left).0)
    }

    /// What one form costs.
    fn cost(&self, index: usize) -> Cost {
        let laid = &self.bench.forms[index];
        let [warm, serialised, distinct, cold_callee, cold_branches] =
            std::array::from_fn(|way| self.estimate(index, way));
        let text = insn::disassemble(Bits::B64, laid.site_address, &laid.site, &|_| None);
        let text = text.iter().map(|line| line.text.as_str()).collect::<Vec<_>>().join("; ");
        Cost { form: laid.form, site: laid.site.clone(), text, warm, serialised, distinct, cold_callee, cold_branches }
    }

    /// Core cycles that the readings say one of `more` sites takes, and their interval.
    fn median(&self, readings: &[Reading], more: f64) -> (f64, f64, f64) {
        let cycles = |r: &Reading| self.bench.difference(r.first, r.second, more) * r.scale;
        median(&mut quiet(readings).map(cycles).collect::<Vec<_>>())
    }

    /// A form's cost in one way, less that of the slot without a site.
    fn estimate(&self, index: usize, way: usize) -> Estimate {
        let more = match way {
            0..PAIRS => self.bench.pairs(&self.bench.forms[index])[way].more,
            _ => 1.0,
        };
        let least = |readings: &Readings| {
            let least = |of: fn(&Reading) -> f64| readings.iter().map(of).fold(f64::INFINITY, f64::min);
            self.bench.difference(least(|r| r.first), least(|r| r.second), more)
        };
        let (own, slot) = (&self.rounds.forms[index][way], &self.rounds.forms[0][way]);
        let (median, low, high) = self.median(own, more);
        let without = self.median(slot, more).0;
        let minimum = (least(own) - least(slot)) * self.rounds.rate;
        Estimate { median: median - without, minimum, low: low - without, high: high - without }
    }
}

/// The readings that others disturbed least: those of a core as quiet as it ever was, and a quarter of all at least.
fn quiet(readings: &[Reading]) -> impl Iterator<Item = &Reading> {
    let mut noises: Vec<_> = readings.iter().map(|r| r.noise).filter(|noise| noise.is_finite()).collect();
    noises.sort_by(f64::total_cmp);
    let quarter = noises.get(noises.len() / 4).copied().unwrap_or(f64::INFINITY);
    let limit = noises.first().map_or(quarter, |least| quarter.max(least * QUIET));
    readings.iter().filter(move |r| r.noise <= limit && r.first.is_finite() && r.second.is_finite())
}

#[cfg(test)]
mod tests {
    use super::super::Broken;
    use super::*;

    /// Measures without telling anybody how far it is.
    fn measured(options: &Options) -> Result<Measurement> {
        measure(options, &mut |_, _| Ok(()))
    }

    /// Whether what comes of a broken method is not taken for a measurement.
    fn noticed(broken: Broken) -> bool {
        let options = Options { seconds: 0.5, cpu: None, broken: Some(broken) };
        measured(&options).map_or(true, |found| !found.checks.iter().all(Check::holds))
    }

    #[test]
    fn a_subtraction_left_out_and_a_loop_folded_away_are_noticed() {
        assert!(noticed(Broken::Subtraction));
        assert!(noticed(Broken::Loop));
    }

    #[test]
    fn no_time_too_much_time_and_no_such_cpu_are_errors() {
        for seconds in [0.0, -1.0, f64::NAN, f64::INFINITY, 601.0] {
            assert!(measured(&Options { seconds, ..Options::default() }).is_err());
        }
        for cpu in [100_000, usize::MAX] {
            let error = measured(&Options { seconds: 1.0, cpu: Some(cpu), broken: None }).expect_err("no such CPU");
            assert!(error.to_string().contains(&cpu.to_string()), "{error}");
        }
    }
}
