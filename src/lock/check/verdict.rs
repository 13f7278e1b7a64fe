//! A case searched: whether it holds, or the shortest run that breaks it.

use super::reduce::Reductions;
use super::search::{Limits, search};
use super::standard::Case;
use super::trace::{self, Event};
use super::violation::Violation;
use crate::error::Result;

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
    let mut events = trace::events(&machine, &run);
    // Stores that go first make runs longer than they need be: search again, for the shortest. If a reduction
    // has merged states that differ, the run cannot be retraced; then the search is done without reductions.
    for reductions in [Reductions::LENGTH_KEEPING, Reductions::NONE] {
        if let Some(shortest) = search(&machine, reductions, limits)?.broken {
            (violation, run) = shortest;
            events = trace::events(&machine, &run);
            if trace::confirms(&machine, &events, violation) {
                break;
            }
        }
    }
    Ok(Checked { states: found.states, finished: true, broken: Some((violation, events)) })
}
