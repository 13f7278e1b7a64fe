//! Every state that can be reached, breadth first, until one breaks a promise.

use super::layout::Layout;
use super::reduce::{Reducer, Reductions};
use super::state::{Action, Machine, Outcome, State};
use super::violation::Violation;
use super::visited::{Key, Visited};
use crate::error::{Error, Result};

/// How far a search goes.
pub struct Limits<'a> {
    /// States after which it gives up unfinished. At 12 to 64 bytes a state this bounds the memory, too.
    pub states: usize,
    /// Asked now and then; true stops the search, unfinished.
    pub interrupted: &'a (dyn Fn() -> bool + Sync),
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchResult {
    /// States, after reduction.
    pub states: usize,
    /// Whether every reachable state was seen, or a violation found.
    pub finished: bool,
    /// What is broken, and the shortest run that breaks it.
    pub broken: Option<(Violation, Vec<Action>)>,
}

/// Searches all that a machine can do.
pub fn search(machine: &Machine, reductions: Reductions, limits: &Limits<'_>) -> Result<SearchResult> {
    Ok(match machine.layout.words(machine.threads) {
        1 => Search::<1>::new(machine, reductions).run(limits)?.0,
        2 => Search::<2>::new(machine, reductions).run(limits)?.0,
        3 => Search::<3>::new(machine, reductions).run(limits)?.0,
        4 => Search::<4>::new(machine, reductions).run(limits)?.0,
        5 => Search::<5>::new(machine, reductions).run(limits)?.0,
        6 => Search::<6>::new(machine, reductions).run(limits)?.0,
        words => return Err(Error::lock(format!("{words} words a state are more than the checker packs"))),
    })
}

/// A search under way.
pub(super) struct Search<'m, const W: usize> {
    pub machine: &'m Machine,
    pub reducer: Reducer<'m>,
    pub visited: Visited<W>,
}

impl<'m, const W: usize> Search<'m, W> {
    pub fn new(machine: &'m Machine, reductions: Reductions) -> Search<'m, W> {
        Search { machine, reducer: Reducer::new(machine, reductions), visited: Visited::new() }
    }

    /// Sees every state; what was found, and the states.
    pub fn run(mut self, limits: &Limits<'_>) -> Result<(SearchResult, Visited<W>)> {
        if limits.states == 0 || limits.states > u32::MAX as usize - 1 {
            return Err(Error::lock(format!("a limit of {} states makes no sense", limits.states)));
        }
        let initial = self.reducer.canonical(self.machine.initial());
        self.visited.insert(&pack(&self.machine.layout, self.machine.threads, &initial), 0);
        let mut next = 0;
        while next < self.visited.len() {
            if next % 4096 == 0 && (limits.interrupted)() || self.visited.len() > limits.states {
                return Ok((SearchResult { states: self.visited.len(), finished: false, broken: None }, self.visited));
            }
            if self.expand(next).is_some() {
                let broken = Some(self.broken(next));
                return Ok((SearchResult { states: self.visited.len(), finished: true, broken }, self.visited));
            }
            next += 1;
        }
        Ok((SearchResult { states: self.visited.len(), finished: true, broken: None }, self.visited))
    }

    /// Notes what can follow a state.
    fn expand(&mut self, number: usize) -> Option<Violation> {
        let machine = self.machine;
        let state = unpack(&machine.layout, machine.threads, self.visited.key(number));
        if let Some(thread) = self.reducer.goes_first(&state)
            && let Outcome::To(to) = machine.step(&state, thread, 0).outcome
        {
            self.note(&to, number);
            return None;
        }
        // As `Machine::stuck` says, found on the way.
        let mut stuck = true;
        for thread in 0..machine.threads {
            match machine.drain(&state, thread) {
                Outcome::Broken(violation) => return Some(violation),
                Outcome::To(to) => {
                    stuck = false;
                    self.note(&to, number);
                }
                Outcome::Disabled => {}
            }
            for (_, stepped) in machine.steps(&state, thread) {
                match stepped.outcome {
                    Outcome::Broken(violation) => return Some(violation),
                    Outcome::To(to) if to != state => {
                        stuck &= stepped.optional || machine.idle(state.threads[thread]);
                        self.note(&to, number);
                    }
                    Outcome::To(_) | Outcome::Disabled => {}
                }
            }
        }
        let waits = (0..machine.threads).any(|thread| !machine.idle(state.threads[thread]));
        (stuck && waits).then_some(Violation::Stuck)
    }

    fn note(&mut self, state: &State, from: usize) {
        let kept = self.reducer.canonical(*state);
        self.visited.insert(&pack(&self.machine.layout, self.machine.threads, &kept), from);
    }

    /// What is broken at a state, and how to get there.
    fn broken(&self, number: usize) -> (Violation, Vec<Action>) {
        let run = self.replayed(number);
        let mut state = self.machine.initial();
        for &action in &run {
            match self.machine.act(&state, action) {
                Outcome::To(to) => state = to,
                // The violation with the names that the threads have in this run.
                Outcome::Broken(violation) => return (violation, run),
                Outcome::Disabled => break,
            }
        }
        (Violation::Stuck, run)
    }

    /// The run that leads to a state and breaks it there, with the threads' own names and tickets: taken again from
    /// the beginning, each time by an action that leads to the state that was kept.
    fn replayed(&self, number: usize) -> Vec<Action> {
        let mut path = vec![number];
        while let Some(&last) = path.last()
            && last != 0
        {
            path.push(self.visited.parent(last));
        }
        let machine = self.machine;
        let mut state = machine.initial();
        let mut run = Vec::new();
        for &number in path.iter().rev().skip(1) {
            let wanted = self.visited.key(number);
            let step = actions(machine, &state).find_map(|action| match machine.act(&state, action) {
                Outcome::To(to) => {
                    let kept = pack::<W>(&machine.layout, machine.threads, &self.reducer.canonical(to));
                    (kept == *wanted).then_some((action, to))
                }
                Outcome::Disabled | Outcome::Broken(_) => None,
            });
            // The reductions are automorphisms: what the kept state could do, this one can.
            let Some((action, to)) = step else { break };
            run.push(action);
            state = to;
        }
        let breaks = |&action: &Action| matches!(machine.act(&state, action), Outcome::Broken(_));
        run.extend(actions(machine, &state).find(breaks));
        if machine.program.starts.len() == 1 { self.renamed(&run) } else { run }
    }

    /// The same run, its threads named in the order in which they come in.
    fn renamed(&self, run: &[Action]) -> Vec<Action> {
        let machine = self.machine;
        let mut order: Vec<usize> = Vec::new();
        for thread in run.iter().map(|action| action.thread).chain(0..machine.threads) {
            if !order.contains(&thread) {
                order.push(thread);
            }
        }
        let (mut state, mut other) = (machine.initial(), machine.initial());
        let mut renamed = Vec::new();
        for action in run {
            let thread = order.iter().position(|&thread| thread == action.thread).unwrap_or(0);
            let after = machine.act(&state, *action);
            // Which of the threads to be looked at is the first depends on their names, so choices may have others.
            let same = actions(machine, &other).filter(|other| other.thread == thread && other.drain == action.drain);
            let found = same.map(|action| (action, machine.act(&other, action))).find(|(_, outcome)| match after {
                Outcome::To(to) => *outcome == Outcome::To(self.reducer.in_order(&to, &order)),
                Outcome::Broken(_) => matches!(outcome, Outcome::Broken(_)),
                Outcome::Disabled => false,
            });
            let Some((action, outcome)) = found else { return run.to_vec() };
            renamed.push(action);
            if let (Outcome::To(to), Outcome::To(to_other)) = (after, outcome) {
                (state, other) = (to, to_other);
            }
        }
        renamed
    }
}

/// Registers of each thread, and memory.
pub type Final = (Vec<Vec<u8>>, Vec<u8>);

/// The ends that a program without cycles can come to, for litmus tests: what the registers and the memory hold where
/// all threads have stopped and all stores have drained.
pub fn outcomes(machine: &Machine, limits: &Limits<'_>) -> Result<Vec<Final>> {
    let (_, visited) = Search::<2>::new(machine, Reductions::NONE).run(limits)?;
    let layout = &machine.layout;
    let states = (0..visited.len()).map(|number| unpack(layout, machine.threads, visited.key(number)));
    let ended = |state: &State| {
        let words = &state.threads[..machine.threads];
        words.iter().all(|&word| machine.idle(word) && machine.buffered(word) == 0)
    };
    let end = |state: State| {
        let words = &state.threads[..machine.threads];
        let registers = words.iter().map(|&word| layout.regs.iter().map(|reg| reg.get(word) as u8).collect());
        (registers.collect(), layout.vars.iter().map(|var| var.get(state.memory) as u8).collect())
    };
    Ok(states.filter(ended).map(end).collect())
}

/// All that could be tried in a state.
pub(super) fn actions<'m>(machine: &'m Machine, state: &State) -> impl Iterator<Item = Action> + 'm {
    let state = *state;
    (0..machine.threads).flat_map(move |thread| {
        let drain = Action { thread, drain: true, choice: 0 };
        let steps = machine.steps(&state, thread).map(move |(choice, _)| Action { thread, drain: false, choice });
        std::iter::once(drain).chain(steps)
    })
}

/// A state in as few words as its bits need.
#[inline]
pub(super) fn pack<const W: usize>(layout: &Layout, threads: usize, state: &State) -> Key<W> {
    let mut key = [0; W];
    let mut at = 0;
    let mut add = |value: u64, bits: u32| {
        let (word, shift) = ((at / 64) as usize, at % 64);
        key[word] |= value << shift;
        if shift + bits > 64 {
            key[word + 1] |= value >> (64 - shift);
        }
        at += bits;
    };
    if layout.memory_bits != 0 {
        add(state.memory, layout.memory_bits);
    }
    for &word in &state.threads[..threads] {
        add(word, layout.thread_bits);
    }
    key
}

/// The state again.
#[inline]
pub(super) fn unpack<const W: usize>(layout: &Layout, threads: usize, key: &Key<W>) -> State {
    let mut at = 0;
    let mut take = |bits: u32| {
        let (word, shift) = ((at / 64) as usize, at % 64);
        let mut value = key[word] >> shift;
        if shift + bits > 64 {
            value |= key[word + 1] << (64 - shift);
        }
        at += bits;
        if bits == 64 { value } else { value & ((1 << bits) - 1) }
    };
    let memory = if layout.memory_bits == 0 { 0 } else { take(layout.memory_bits) };
    let mut state = State { memory, ..State::default() };
    for word in &mut state.threads[..threads] {
        *word = take(layout.thread_bits);
    }
    state
}
