//! An explicit-state model checker for lock protocols on x86-TSO.
//!
//! A protocol is a [`program`]: one access to memory a step. The [`machine`] runs any number of steps of any thread, and
//! of its store buffer, in any order; the [`search`] sees every state that can be reached, and says whether one breaks
//! a promise:
//!
//! | promise | of |
//! |---|---|
//! | one owner at a time | every protocol |
//! | no kick is lost: there is no state in which someone waits and nothing has to happen any more | every protocol |
//! | who arrives first enters first | the ticket locks |
//! | nobody touches the lock after giving it up: the next owner, done with it, may have freed it | those that say so |
//! | at most so many enter before a thread that has said that it starves | the hybrid |
//!
//! Threads acquire for ever, or for ever not: a thread outside the lock may stay there, so a kick that is lost cannot
//! hide behind someone who comes later and kicks again. Spinning for a while is a choice at every turn. What is proved
//! is proved for every length of a run, for the number of threads and slots at hand, for these programs (not for the
//! Rust that they describe), on TSO (not on weaker machines), and for safety: that who waits *can* go on, not that the
//! scheduler lets it. [`reduce`] says why states can be identified.

mod layout;
pub mod machine;
pub mod program;
pub mod protocols;
pub mod reduce;
pub mod search;
mod standard;
pub mod trace;
mod visited;

pub use machine::{Action, Machine, Violation};
pub use protocols::{Mutant, Protocol, Scenario, Setting};
pub use reduce::Reductions;
pub use search::{Found, Limits, search};
pub use standard::{Case, UNCATCHABLE, standard};
pub use trace::{Event, replay};

use crate::error::{Error, Result};

/// The most threads.
pub const MAX_THREADS: usize = 6;
/// The most acquisitions of a bounded search.
pub const MAX_ACQUISITIONS: u8 = 7;

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// States seen, after reduction, until the search ended.
    pub states: usize,
    /// Whether every reachable state was seen, or a violation found.
    pub finished: bool,
    /// What is broken, and the shortest run that breaks it.
    pub broken: Option<(Violation, Vec<Event>)>,
}

/// Checks a case.
pub fn check(case: &Case, limits: &Limits<'_>) -> Result<Checked> {
    let machine = case.machine()?;
    let found = search(&machine, Reductions::ALL, limits)?;
    let Some((mut violation, mut run)) = found.broken else {
        return Ok(Checked { states: found.states, finished: found.finished, broken: None });
    };
    let mut events = trace::told(&machine, &run);
    // Stores that go first make runs longer than they need be: look once more, for the shortest. Where states are one
    // that are not the same, the way back to a run can be lost; then it is looked for where none are.
    for reductions in [Reductions::LENGTH_KEEPING, Reductions::NONE] {
        if let Some(shortest) = search(&machine, reductions, limits)?.broken {
            (violation, run) = shortest;
            events = trace::told(&machine, &run);
            if trace::confirms(&machine, &events, violation) {
                break;
            }
        }
    }
    Ok(Checked { states: found.states, finished: true, broken: Some((violation, events)) })
}

/// Refuses numbers of threads and acquisitions that make no sense.
fn limits(threads: usize, acquisitions: Option<u8>) -> Result<()> {
    if !(1..=MAX_THREADS).contains(&threads) {
        return Err(Error::lock(format!("{threads} threads cannot be checked: 1 to {MAX_THREADS} can")));
    }
    if let Some(n) = acquisitions
        && !(1..=MAX_ACQUISITIONS).contains(&n)
    {
        return Err(Error::lock(format!(
            "{n} acquisitions a thread cannot be checked: 1 to {MAX_ACQUISITIONS} can, or any number of them"
        )));
    }
    Ok(())
}
