//! Runs that a person can follow, and that can be run again.

use super::program::Kind;
use super::state::{Action, Machine, Outcome, State};
use super::violation::Violation;
use crate::error::{Error, Result};

/// One action of a run, and what it left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Who did it.
    pub action: Action,
    /// What it did, and what it read: `head == my? [head 0]`.
    pub text: String,
    /// Every variable afterwards, those that each thread has as `T0.kicked`.
    pub memory: Vec<(String, u8)>,
    /// Each thread's store buffer afterwards, the oldest store first.
    pub buffers: Vec<Vec<(String, u8)>>,
}

/// Tells a run.
pub(super) fn events(machine: &Machine, run: &[Action]) -> Vec<Event> {
    let mut state = machine.initial();
    let mut events = Vec::new();
    for &action in run {
        let outcome = machine.act(&state, action);
        let text = text(machine, &state, action, outcome);
        if let Outcome::To(to) = outcome {
            state = to;
        }
        events.push(Event { action, text, memory: memory(machine, &state), buffers: buffers(machine, &state) });
    }
    events
}

fn text(machine: &Machine, state: &State, action: Action, outcome: Outcome) -> String {
    let thread = action.thread;
    if action.drain {
        let oldest = buffer(machine, state, thread).into_iter().next();
        return oldest.map_or_else(String::new, |(name, value)| format!("(drains {name} = {value})"));
    }
    let step = machine.step_at(state.threads[thread]);
    let mut text = step.text.to_owned();
    let reads = machine.reads(state, thread);
    if !reads.is_empty() {
        let reads: Vec<String> = reads.into_iter().map(|(name, value)| format!("{name} {value}")).collect();
        text = format!("{text} [{}]", reads.join(", "));
    }
    match (&step.kind, outcome) {
        (Kind::FutexWait(..), Outcome::To(to)) if machine.layout.blocked.get(to.threads[thread]) != 0 => {
            text.push_str(": sleeps");
        }
        (Kind::FutexWait(..), _) => text.push_str(": changed, returns"),
        (Kind::Membarrier, Outcome::To(to)) if machine.layout.left.get(to.threads[thread]) != 0 => {
            text.push_str(": waits for buffers");
        }
        _ => {}
    }
    text
}

fn memory(machine: &Machine, state: &State) -> Vec<(String, u8)> {
    let mut memory = Vec::new();
    for (var, field) in machine.program.vars.iter().zip(&machine.layout.vars) {
        if var.own {
            for (thread, &word) in state.threads[..machine.threads].iter().enumerate() {
                memory.push((format!("T{thread}.{}", var.name), field.get(word) as u8));
            }
        } else if var.len == 1 {
            memory.push((var.name.to_owned(), field.get(state.memory) as u8));
        } else {
            for element in 0..var.len {
                let value = field.up(element as u32 * var.bits).get(state.memory) as u8;
                memory.push((format!("{}[{element}]", var.name), value));
            }
        }
    }
    memory
}

fn buffers(machine: &Machine, state: &State) -> Vec<Vec<(String, u8)>> {
    (0..machine.threads).map(|thread| buffer(machine, state, thread)).collect()
}

fn buffer(machine: &Machine, state: &State, thread: usize) -> Vec<(String, u8)> {
    let word = state.threads[thread];
    let entry = machine.layout.entry;
    let store = |n: u64| {
        let word = word >> (n as u32 * entry.bits);
        (machine.stored_name(entry.place.get(word) as usize, thread), entry.value.get(word) as u8)
    };
    (0..machine.buffered(word)).map(store).collect()
}

/// Whether a run, taken again, ends in this.
pub(super) fn confirms(machine: &Machine, events: &[Event], violation: Violation) -> bool {
    let run: Vec<_> = events.iter().map(|event| (event.action, event.text.clone())).collect();
    replay(machine, &run).is_ok_and(|found| found == violation)
}

/// Takes a run again: what it breaks at its end. An action that cannot be taken, that does something else than it says,
/// or a run that breaks nothing, or something too early, is an error that names its row.
pub fn replay(machine: &Machine, run: &[(Action, String)]) -> Result<Violation> {
    let mut state = machine.initial();
    for (row, (action, said)) in run.iter().enumerate() {
        let refused = |why: String| Err(Error::lock(why).in_section("trace").at_row(row));
        if action.thread >= machine.threads {
            return refused(format!("there is no thread {}: there are {}", action.thread, machine.threads));
        }
        let outcome = machine.act(&state, *action);
        if outcome == Outcome::Disabled {
            return refused(format!("T{} cannot do this here: {said}", action.thread));
        }
        let does = text(machine, &state, *action, outcome);
        if does != *said {
            return refused(format!("T{} does something else here: {does}, not {said}", action.thread));
        }
        match outcome {
            Outcome::To(to) => state = to,
            Outcome::Broken(violation) if row + 1 == run.len() => return Ok(violation),
            Outcome::Broken(violation) => return refused(format!("{violation}, and the trace goes on")),
            Outcome::Disabled => {}
        }
    }
    if machine.stuck(&state) {
        return Ok(Violation::Stuck);
    }
    Err(Error::lock("the run can be taken, but breaks nothing").in_section("trace"))
}
