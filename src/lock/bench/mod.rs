//! Our locks beside those that people use, and beside the machine's own limits, in interleaved rounds.
//!
//! A round measures every lock once, in an order rotated from round to round, so that what else runs on the machine
//! disturbs all alike. What comes out are medians over the rounds (of the uncontended pair: minima too, for there noise
//! only ever adds). Every run checks that the locks exclude: a plain counter must come out right.

mod contenders;
mod contention;
mod limits;
mod measured;
mod statistics;
mod uncontended;

pub use contenders::{Contender, NAMES, contender};
pub use contention::{Case, Contention};
pub use limits::{Limits, mode_ns};
pub use statistics::{median, quartiles};
pub use uncontended::{Pair, raw};
