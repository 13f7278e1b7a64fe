//! Protocols as step programs: one access to memory a step, and what a thread decides from it.
//!
//! ```text
//! lock:  my = xadd(tail, 1)          locked
//! spin:  h = head                    read
//!        if h == my goto enter       local: no step of its own
//!        either goto spin, or go on
//! ```
//!
//! A program is data, so that what the reductions need is computed and not claimed: which registers are dead (they are
//! zeroed, and so two states that differ in one of them are one), which fields hold tickets (they are rotated), and
//! how many stores a store buffer can hold at once.

mod analysis;
mod builder;
mod statements;

pub(super) use analysis::walk;
pub use builder::Builder;
pub use statements::{Act, At, Cond, Kind, Mark, Program, Promises, Reg, Val, Var, get, get_if, put, put_if};
pub(super) use statements::{Declared, KEPT, LEFT, Op, PICKED, Step, step_of, var_of};
