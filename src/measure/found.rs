//! What the readings come to: estimates, and the checks of the method.

use super::region::UNROLLED;
use super::rounds::{Bench, PAIRS, QUIET, Reading, Readings, TURNS, WAYS};
use super::statistics::{Estimate, median};
use super::{Check, Cost};
use crate::image::Bits;
use crate::insn;

/// All that was read, on the way to estimates.
pub struct Found<'a> {
    /// What they were read with.
    pub bench: &'a Bench,
    /// Every form's in every way, the slot's first.
    pub forms: Vec<[Readings; WAYS]>,
    /// Core cycles in a tick, over all rounds.
    pub rate: f64,
}

impl Found<'_> {
    /// What the method is held to: what is known, measured by it.
    pub fn checks(&self, yards: &[Readings; 4], core_hz: f64) -> Vec<Check> {
        let n = UNROLLED as f64;
        let cycles = |index: usize| self.median(&yards[index], TURNS as f64).0;
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
        let quiet: Vec<_> = quiet(&self.forms[1][0]).collect();
        let mut whole: Vec<_> = quiet.iter().map(|r| r.first).collect();
        let mut left: Vec<_> = quiet.iter().map(|r| self.bench.difference(r.first, r.second, 1.0)).collect();
        (median(&mut whole).0, median(&mut left).0)
    }

    /// What one form costs.
    pub fn cost(&self, index: usize) -> Cost {
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
        let (own, slot) = (&self.forms[index][way], &self.forms[0][way]);
        let (median, low, high) = self.median(own, more);
        let without = self.median(slot, more).0;
        let minimum = (least(own) - least(slot)) * self.rate;
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
