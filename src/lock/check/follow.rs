//! Runs that something else made, taken in the model: the trace of a guest's machine code, say.
//!
//! A trace tells who took which line of the program, and what memory was before it. It does not tell which of the ways
//! on a thread took where the program leaves several open, so every state that it can be in is kept; the trace is a
//! run of the model if one is left. Memory is that of a machine without store buffers, where a store drains at once;
//! or the trace tells when each drains.

use super::layout::Field;
use super::state::{Machine, Outcome, State};
use super::violation::Violation;
use crate::error::{Error, Result};

/// The line of a trace that says that the oldest store of a thread is seen by all.
pub const DRAIN: &str = "(drain)";

/// A line of the program that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// By whom.
    pub thread: usize,
    /// The line.
    pub text: String,
    /// Variables before it, those that each thread has as `T0.kicked`; as many as are known. Only the bits count that
    /// the model has.
    pub memory: Vec<(String, u8)>,
}

/// What following a trace came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Followed {
    /// The most states that it could be in at one time.
    pub states: usize,
    /// What its last line breaks; or, where nobody can go on behind it, that someone waits.
    pub broken: Option<Violation>,
}

/// More states than a trace of one machine leaves open.
const MOST: usize = 10_000;

/// Takes a run in the model. A line that cannot be taken there, or memory that is another, is an error that names its
/// row. `buffers`: stores drain where the trace says so ([`DRAIN`]), and not at once.
pub fn follow(machine: &Machine, trace: &[Taken], buffers: bool) -> Result<Followed> {
    let places = places(machine);
    let mut states = vec![machine.initial()];
    let mut most = 1;
    for (row, taken) in trace.iter().enumerate() {
        let refused = |why: String| Error::lock(why).in_section("trace").at_row(row);
        if taken.thread >= machine.threads {
            return Err(refused(format!("there is no thread {}: there are {}", taken.thread, machine.threads)));
        }
        let other = states.first().and_then(|state| differs(&places, state, taken));
        states.retain(|state| differs(&places, state, taken).is_none());
        if let (true, Some((name, held, seen))) = (states.is_empty(), other) {
            let Taken { thread, text, .. } = taken;
            let before = format!("before T{thread} takes \"{text}\"");
            return Err(refused(format!("{name} is {seen} {before}, and {held} in the model")));
        }
        let mut next: Vec<State> = Vec::new();
        let mut broken = None;
        if buffers && taken.text == DRAIN {
            for state in &states {
                if let Outcome::To(to) = machine.drain(state, taken.thread)
                    && !next.contains(&to)
                {
                    next.push(to);
                }
            }
            if next.is_empty() {
                return Err(refused(format!("a store of T{} drains, and none is buffered", taken.thread)));
            }
            states = next;
            continue;
        }
        for state in &states {
            if machine.step_at(state.threads[taken.thread]).text != taken.text {
                continue;
            }
            for (_, stepped) in machine.steps(state, taken.thread) {
                match stepped.outcome {
                    Outcome::To(to) => {
                        let to = if buffers { to } else { drained(machine, to, taken.thread) };
                        if !next.contains(&to) {
                            next.push(to);
                        }
                    }
                    Outcome::Broken(violation) => broken = Some(violation),
                    Outcome::Disabled => {}
                }
            }
        }
        if next.is_empty() {
            if broken.is_some() && row + 1 == trace.len() {
                return Ok(Followed { states: most, broken });
            }
            if let Some(violation) = broken {
                return Err(refused(format!("{violation}, and the trace goes on")));
            }
            let stands = |state: &State| machine.step_at(state.threads[taken.thread]).text;
            let mut lines: Vec<&str> = states.iter().map(stands).collect();
            lines.sort_unstable();
            lines.dedup();
            let lines = lines.join("\" or \"");
            return Err(refused(format!("T{} takes \"{}\", and stands before \"{lines}\"", taken.thread, taken.text)));
        }
        if next.len() > MOST {
            return Err(refused(format!("the trace leaves more than {MOST} states open")));
        }
        most = most.max(next.len());
        states = next;
    }
    // In some state a thread may be about to be interrupted, which need never come.
    let stuck = states.iter().any(|state| machine.stuck(state));
    Ok(Followed { states: most, broken: stuck.then_some(Violation::Stuck) })
}

/// Memory without store buffers: what a thread stored is there.
fn drained(machine: &Machine, mut state: State, thread: usize) -> State {
    while let Outcome::To(to) = machine.drain(&state, thread) {
        state = to;
    }
    state
}

/// A variable: its name, whose word it lies in (None: the memory that all share), and where.
type Place = (String, Option<usize>, Field);

fn places(machine: &Machine) -> Vec<Place> {
    let mut places = Vec::new();
    for (var, &field) in machine.program.vars.iter().zip(&machine.layout.vars) {
        if var.own {
            places.extend((0..machine.threads).map(|thread| (format!("T{thread}.{}", var.name), Some(thread), field)));
        } else if var.len == 1 {
            places.push((var.name.to_owned(), None, field));
        }
    }
    places
}

/// The first variable that a state has otherwise: its name, what it holds and what was seen.
fn differs<'a>(places: &[Place], state: &State, taken: &'a Taken) -> Option<(&'a str, u64, u64)> {
    taken.memory.iter().find_map(|(name, seen)| {
        let (_, owner, field) = places.iter().find(|(known, ..)| known == name)?;
        let held = field.get(owner.map_or(state.memory, |thread| state.threads[thread]));
        let seen = u64::from(*seen) & field.mask;
        (held != seen).then_some((name.as_str(), held, seen))
    })
}
