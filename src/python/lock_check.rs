//! The lock checker.

use pyo3::prelude::*;

use crate::error::{Error, Result};
use crate::lock::check::{
    self, Action, Case, Checked, Event, Followed, Limits, Mutant, Protocol, Scenario, Setting, Taken,
};

/// (protocol, mutant, scenario, threads, slots, acquisitions) of a case; slots are None where there are none.
type CaseRow = (String, Option<String>, String, usize, Option<usize>, Option<u8>);
/// (thread, drains, choice, text, memory, store buffers) of an action.
type EventRow = (usize, bool, u32, String, Vec<(String, u8)>, Vec<Vec<(String, u8)>>);
/// (states, finished, name of what is broken, in words, the run) of a check.
type CheckedRow = (usize, bool, Option<String>, Option<String>, Vec<EventRow>);

fn case((protocol, mutant, scenario, threads, slots, acquisitions): CaseRow) -> Result<Case> {
    let protocol = Protocol::named(&protocol)?;
    let mutant = mutant.as_deref().map(Mutant::named).transpose()?;
    if slots.is_some() && !protocol.has_slots() {
        return Err(Error::lock(format!("the waiters of {} do not park on slots", protocol.name())));
    }
    let scenario = Scenario::named(&scenario)?;
    let setting = Setting { mutant, scenario, ..Setting::sound(slots.unwrap_or(1)) };
    Ok(Case { protocol, setting, threads, acquisitions })
}

fn event(event: Event) -> EventRow {
    let Action { thread, drain, choice } = event.action;
    (thread, drain, choice, event.text, event.memory, event.buffers)
}

/// (name, mutants, scenarios) of each protocol.
#[pyfunction]
pub fn lock_protocols() -> Vec<(String, Vec<String>, Vec<String>)> {
    let row = |protocol: &Protocol| {
        let mutants = protocol.mutants().iter().map(|mutant| mutant.name().to_owned()).collect();
        let scenarios = protocol.scenarios().iter().map(|scenario| scenario.name().to_owned()).collect();
        (protocol.name().to_owned(), mutants, scenarios)
    };
    Protocol::ALL.iter().map(row).collect()
}

/// The cases checked when none is named.
#[pyfunction]
pub fn lock_standard() -> Vec<CaseRow> {
    let row = |case: Case| {
        let setting = case.setting;
        let slots = case.protocol.has_slots().then_some(setting.slots);
        let mutant = setting.mutant.map(|mutant| mutant.name().to_owned());
        let scenario = setting.scenario.name().to_owned();
        (case.protocol.name().to_owned(), mutant, scenario, case.threads, slots, case.acquisitions)
    };
    check::standard().into_iter().map(row).collect()
}

/// (mutant, why no tool here can catch it).
#[pyfunction]
pub fn lock_uncatchable() -> Vec<(String, String)> {
    check::UNCATCHABLE.iter().map(|&(mutant, reason)| (mutant.to_owned(), reason.to_owned())).collect()
}

/// Checks a case, seeing at most this many states. Ctrl-C ends it.
#[pyfunction]
pub fn lock_check(py: Python<'_>, of: CaseRow, states: usize) -> PyResult<CheckedRow> {
    let case = case(of)?;
    // Signals are looked at with the GIL, and what came of that is raised when the search has stopped for it.
    let raised = std::sync::Mutex::new(None);
    let interrupted = || {
        let error = Python::attach(|py| py.check_signals()).err();
        let stops = error.is_some();
        if let (Some(error), Ok(mut raised)) = (error, raised.lock()) {
            raised.get_or_insert(error);
        }
        stops
    };
    let checked = py.detach(|| check::check(&case, &Limits { states, interrupted: &interrupted }))?;
    if let Ok(Some(error)) = raised.into_inner() {
        return Err(error);
    }
    let Checked { states, finished, broken } = checked;
    let (violation, run) = broken.map_or((None, Vec::new()), |(violation, run)| (Some(violation), run));
    let (name, words) = violation.map(|v| (v.name().to_owned(), v.to_string())).unzip();
    Ok((states, finished, name, words, run.into_iter().map(event).collect()))
}

/// Takes a run, (thread, drains, choice, text) of each action, again: (name, in words) of what it breaks.
#[pyfunction]
pub fn lock_replay(py: Python<'_>, of: CaseRow, run: Vec<(usize, bool, u32, String)>) -> PyResult<(String, String)> {
    let case = case(of)?;
    let run: Vec<(Action, String)> =
        run.into_iter().map(|(thread, drain, choice, text)| (Action { thread, drain, choice }, text)).collect();
    let violation = py.detach(|| check::replay(&case.machine()?, &run))?;
    Ok((violation.name().to_owned(), violation.to_string()))
}

/// (thread, line, variables before it) of a line that was taken.
type TakenRow = (usize, String, Vec<(String, u8)>);

/// Takes a run that something else made, in the model: the most states that it leaves open at one time, and the name
/// and words of what its last line breaks, or that nobody can go on behind it.
#[pyfunction]
pub fn lock_follow(
    py: Python<'_>,
    of: CaseRow,
    run: Vec<TakenRow>,
    buffers: bool,
) -> PyResult<(usize, Option<(String, String)>)> {
    let case = case(of)?;
    let run: Vec<Taken> = run.into_iter().map(|(thread, text, memory)| Taken { thread, text, memory }).collect();
    let Followed { states, broken } = py.detach(|| check::follow(&case.machine()?, &run, buffers))?;
    Ok((states, broken.map(|violation| (violation.name().to_owned(), violation.to_string()))))
}
