//! Runs that something else made, taken in the model: the trace of a guest's machine code, say.
//!
//! A trace tells who took which line of the program, and what memory was before it. It does not tell which of the ways
//! on a thread took where the program leaves several open, so every state that it can be in is kept; the trace is a
//! run of the model if one is left. Memory is that of a machine without store buffers, where a store drains at once;
//! or the trace tells when each drains.
//!
//! In the model a futex wakes all who sleep on it in one step. Who wakes by kicks does it one after the other, and
//! others go to sleep in between: a trace that tells who is woken, and when, is followed so. A waiter may be woken when
//! it has said where it sleeps and does not yet: then its trace says that it is awake.

use super::layout::Field;
use super::program::Kind;
use super::run::Place;
use super::state::{Machine, Outcome, State};
use super::violation::Violation;
use crate::error::{Error, Result};

/// The line of a trace that says that the oldest store of a thread is seen by all.
pub const DRAIN: &str = "(drain)";

/// The line that says that the thread need not sleep: somebody has woken it before.
const AWAKE: &str = "(awake)";

/// Whom the line of a trace says that its thread wakes: `(wakes T2)`.
fn woken(text: &str) -> Option<usize> {
    text.strip_prefix("(wakes T")?.strip_suffix(')')?.parse().ok()
}

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

/// One of the states that a trace can be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Open {
    state: State,
    /// Threads that were woken when they did not sleep, a bit each.
    early: u8,
}

/// Who is waking others: for each thread behind a futex's wake, the place on which those sleep.
type Waking = Vec<Option<Place>>;

/// Takes a run in the model. A line that cannot be taken there, or memory that is another, is an error that names its
/// row. `buffers`: stores drain where the trace says so ([`DRAIN`]), and not at once.
pub fn follow(machine: &Machine, trace: &[Taken], buffers: bool) -> Result<Followed> {
    let places = places(machine);
    let mut states = vec![Open { state: machine.initial(), early: 0 }];
    let mut most = 1;
    // Waking one after the other, where the trace tells.
    let told = trace.iter().any(|taken| woken(&taken.text).is_some());
    let mut waking: Waking = vec![None; machine.threads];
    for (row, taken) in trace.iter().enumerate() {
        let refused = |why: String| Error::lock(why).in_section("trace").at_row(row);
        if taken.thread >= machine.threads {
            return Err(refused(format!("there is no thread {}: there are {}", taken.thread, machine.threads)));
        }
        let other = states.first().and_then(|open| differs(&places, &open.state, taken));
        states.retain(|open| differs(&places, &open.state, taken).is_none());
        if let (true, Some((name, held, seen))) = (states.is_empty(), other) {
            let Taken { thread, text, .. } = taken;
            let before = format!("before T{thread} takes \"{text}\"");
            return Err(refused(format!("{name} is {seen} {before}, and {held} in the model")));
        }
        let mut next: Vec<Open> = Vec::new();
        let mut broken = None;
        if let Some(sleeper) = woken(&taken.text) {
            let Some(place) = waking.get(taken.thread).copied().flatten().filter(|_| sleeper < machine.threads) else {
                return Err(refused(format!("T{} is not waking anyone, and wakes T{sleeper}", taken.thread)));
            };
            for open in &states {
                wake(machine, open, sleeper, place, &mut next);
            }
            if next.is_empty() {
                return Err(refused(format!("T{} wakes T{sleeper}, which sleeps elsewhere", taken.thread)));
            }
            states = next;
            continue;
        }
        if taken.text == AWAKE {
            let bit = 1 << taken.thread;
            for open in states.iter().filter(|open| open.early & bit != 0 && machine.blocked(&open.state, taken.thread))
            {
                let ways = machine.woken(&open.state, taken.thread);
                ways.for_each(|state| add(&mut next, Open { state, early: open.early & !bit }));
            }
            if next.is_empty() {
                return Err(refused(format!("nobody woke T{} before it slept", taken.thread)));
            }
            states = next;
            continue;
        }
        if buffers && taken.text == DRAIN {
            for open in &states {
                if let Outcome::To(state) = machine.drain(&open.state, taken.thread) {
                    add(&mut next, Open { state, ..*open });
                }
            }
            if next.is_empty() {
                return Err(refused(format!("a store of T{} drains, and none is buffered", taken.thread)));
            }
            states = next;
            continue;
        }
        waking[taken.thread] = None;
        for open in &states {
            let step = machine.step_at(open.state.threads[taken.thread]);
            if step.text != taken.text {
                continue;
            }
            if let (true, Kind::FutexWake(at) | Kind::FutexWakeOne(at)) = (told, &step.kind) {
                waking[taken.thread] = Some(machine.place(&open.state, taken.thread, at));
            }
            for (_, stepped) in machine.steps_waking(&open.state, taken.thread, !told) {
                match stepped.outcome {
                    Outcome::To(to) => {
                        let state = if buffers { to } else { drained(machine, to, taken.thread) };
                        add(&mut next, Open { state, ..*open });
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
            let stands = |open: &Open| machine.step_at(open.state.threads[taken.thread]).text;
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
    let stuck = states.iter().any(|open| machine.stuck(&open.state));
    Ok(Followed { states: most, broken: stuck.then_some(Violation::Stuck) })
}

fn add(states: &mut Vec<Open>, open: Open) {
    if !states.contains(&open) {
        states.push(open);
    }
}

/// A thread is woken: from its sleep on this place, or before it sleeps. None where it sleeps elsewhere.
fn wake(machine: &Machine, open: &Open, sleeper: usize, place: Place, next: &mut Vec<Open>) {
    if !machine.blocked(&open.state, sleeper) {
        add(next, Open { early: open.early | 1 << sleeper, ..*open });
    } else if machine.sleeps_on(&open.state, sleeper) == Some(place) {
        machine.woken(&open.state, sleeper).for_each(|state| add(next, Open { state, ..*open }));
    }
}

/// Memory without store buffers: what a thread stored is there.
fn drained(machine: &Machine, mut state: State, thread: usize) -> State {
    while let Outcome::To(to) = machine.drain(&state, thread) {
        state = to;
    }
    state
}

/// A variable: its name, whose word it lies in (None: the memory that all share), and where.
type Named = (String, Option<usize>, Field);

fn places(machine: &Machine) -> Vec<Named> {
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
fn differs<'a>(places: &[Named], state: &State, taken: &'a Taken) -> Option<(&'a str, u64, u64)> {
    taken.memory.iter().find_map(|(name, seen)| {
        let (_, owner, field) = places.iter().find(|(known, ..)| known == name)?;
        let held = field.get(owner.map_or(state.memory, |thread| state.threads[thread]));
        let seen = u64::from(*seen) & field.mask;
        (held != seen).then_some((name.as_str(), held, seen))
    })
}
