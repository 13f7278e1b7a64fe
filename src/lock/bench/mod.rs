//! Our locks beside those that people use, and beside the machine's own limits, in interleaved rounds.
//!
//! A round measures every lock once, in an order rotated from round to round, so that what else runs on the machine
//! disturbs all alike. What comes out are medians over the rounds (of the uncontended pair: minima too, for there noise
//! only ever adds). Every run checks that the locks exclude: a plain counter must come out right.

mod contenders;
mod contention;
mod limits;
mod measured;
mod uncontended;

pub use contenders::{Contender, NAMES, contender};
pub use contention::{Case, Contention};
pub use limits::{Limits, mode_ns};
pub use uncontended::{Pair, raw};

/// The middle one of some figures; 0 of none.
pub fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    quartiles(figures)[1]
}

/// Lower quartile, median and upper quartile of some figures; zeros of none.
pub fn quartiles(figures: impl IntoIterator<Item = f64>) -> [f64; 3] {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    let last = figures.len().saturating_sub(1);
    [1, 2, 3].map(|quarter| figures.get(last * quarter / 4).copied().unwrap_or(0.0))
}
