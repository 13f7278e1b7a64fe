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
mod measurement;
mod region;
mod rounds;
mod statistics;
mod yardsticks;

pub use estimates::measure;
pub use form::{FORMS, Form};
pub use measurement::{Broken, Check, Cost, Measurement, Options};
pub use statistics::Estimate;
