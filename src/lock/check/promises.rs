//! What the marks of a program mean, and which of the promises a mark breaks.

use super::program::{Act, Cond, Kind, Mark, Step, var_of};
use super::state::{Machine, State};
use super::violation::Violation;

/// What a mark means. True: the thread acquires no more.
pub(super) fn mark(machine: &Machine, state: &mut State, me: usize, mark: Mark) -> Result<bool, Violation> {
    let layout = &machine.layout;
    let others = (0..machine.threads).filter(|&other| other != me);
    match mark {
        Mark::Arrive => {
            let before = others.filter(|&t| layout.rank.get(state.threads[t]) != 0).count() as u64;
            layout.rank.set(&mut state.threads[me], before + 1);
        }
        Mark::Enter => enter(machine, state, me)?,
        Mark::Leave => {
            for other in others {
                let word = &mut state.threads[other];
                if layout.standing.get(*word) == 1 {
                    layout.standing.set(word, 2);
                }
            }
            layout.owns.set(&mut state.threads[me], 0);
            layout.standing.set(&mut state.threads[me], 1);
        }
        Mark::Starve => {
            if layout.overtaken.get(state.threads[me]) == 0 {
                layout.overtaken.set(&mut state.threads[me], 1);
            }
        }
        Mark::Withdraw => {
            layout.rank.set(&mut state.threads[me], 0);
            layout.overtaken.set(&mut state.threads[me], 0);
        }
        Mark::Inherit => {
            layout.standing.set(&mut state.threads[me], 0);
            // The one that left stood first; where order is not promised, no ranks are kept.
            layout.rank.set(&mut state.threads[me], 1);
            enter(machine, state, me)?;
        }
        Mark::Done => {
            let word = &mut state.threads[me];
            layout.standing.set(word, 0);
            if let Some(acquisitions) = machine.acquisitions {
                let count = layout.count.get(*word) + 1;
                let ends = count >= u64::from(acquisitions);
                layout.count.set(word, if ends { 0 } else { count });
                return Ok(ends);
            }
        }
    }
    Ok(false)
}

fn enter(machine: &Machine, state: &mut State, me: usize) -> Result<(), Violation> {
    let layout = &machine.layout;
    let promises = machine.program.promises;
    let rank = layout.rank.get(state.threads[me]);
    for other in (0..machine.threads).filter(|&other| other != me) {
        let word = &mut state.threads[other];
        if layout.owns.get(*word) != 0 {
            return Err(Violation::MutualExclusion { owner: other, other: me });
        }
        let theirs = layout.rank.get(*word);
        layout.rank.set(word, theirs.saturating_sub(1));
        let overtaken = layout.overtaken.get(*word);
        if overtaken != 0 {
            layout.overtaken.set(word, overtaken + 1);
            if promises.overtakers.is_some_and(|bound| overtaken > u64::from(bound)) {
                return Err(Violation::Starved { thread: other });
            }
        }
    }
    if promises.fifo && rank != 1 {
        return Err(Violation::Order { thread: me });
    }
    let word = &mut state.threads[me];
    layout.owns.set(word, 1);
    layout.rank.set(word, 0);
    layout.overtaken.set(word, 0);
    Ok(())
}
/// Whether the step touches the lock's memory when it may not.
pub(super) fn touches(machine: &Machine, state: &State, me: usize, step: &Step) -> Result<(), Violation> {
    let standing = machine.layout.standing.get(state.threads[me]);
    if standing == 0 {
        return Ok(());
    }
    // What is done on a condition is done where the program knows that the lock lives: freeing it would have changed that.
    let in_lock = step.acts.iter().any(|act| match act {
        Act::Get(_, at) | Act::Put(at, _, Cond::Always) => machine.program.vars[var_of(*at).0].lock,
        Act::GetIf(..) | Act::Put(..) => false,
    });
    // A store may drain at any time later, so it is wrong as soon as it is made.
    if in_lock && (standing == 2 || step.kind == Kind::Write) {
        return Err(Violation::TouchAfterRelease { thread: me });
    }
    Ok(())
}
