//! What the reductions need to know of a program, computed from it: what may follow, what is dead, how much is buffered.

use super::statements::{Act, At, Cond, Declared, KEPT, Kind, LEFT, Mark, Op, PICKED, Reg, Step, step_of, var_of};
use crate::error::{Error, Result};

/// Whether a thread stays before the op until another one lets it go on.
pub(super) fn waits(op: &Op) -> bool {
    step_of(op).is_some_and(|step| matches!(step.kind, Kind::FutexWait(..) | Kind::Membarrier))
}

/// Every op that a thread may come by from here, up to the next steps and with them.
pub(in crate::lock::check) fn walk(ops: &[Op], from: usize) -> impl Iterator<Item = &Op> {
    let (mut seen, mut open) = (vec![false; ops.len()], vec![from]);
    std::iter::from_fn(move || {
        while let Some(at) = open.pop() {
            if std::mem::replace(&mut seen[at], true) {
                continue;
            }
            if step_of(&ops[at]).is_none() {
                open.extend(successors(ops, at));
            }
            return Some(&ops[at]);
        }
        None
    })
}

/// Whether a step between [`Mark::Leave`] and [`Mark::Done`] reads or writes what lies in the lock.
pub(super) fn touches_after_release(ops: &[Op], vars: &[Declared]) -> bool {
    let mut open: Vec<usize> = (0..ops.len()).filter(|&at| matches!(ops[at], Op::Mark(Mark::Leave))).collect();
    let mut seen = vec![false; ops.len()];
    while let Some(at) = open.pop() {
        if std::mem::replace(&mut seen[at], true) || matches!(ops[at], Op::Mark(Mark::Done)) {
            continue;
        }
        let mut places = step_of(&ops[at]).into_iter().flat_map(|step| &step.acts);
        if places.any(|(Act::Get(_, at) | Act::GetIf(_, at, _) | Act::Put(at, ..))| vars[var_of(*at).0].lock) {
            return true;
        }
        open.extend(successors(ops, at));
    }
    false
}

/// The first steps of acquisitions: those that threads begin with, and come to when they are done.
pub(super) fn idle(ops: &[Op], starts: &[usize]) -> Vec<bool> {
    let mut idle = vec![false; ops.len()];
    let done = (0..ops.len()).filter(|&at| matches!(ops[at], Op::Mark(Mark::Done)));
    let mut open: Vec<usize> = done.map(|at| at + 1).collect();
    // A program without acquisitions (a litmus test) has to run to its end.
    if !open.is_empty() {
        open.extend(starts);
    }
    while let Some(at) = open.pop() {
        if step_of(&ops[at]).is_some() {
            idle[at] = true;
        } else {
            open.extend(successors(ops, at));
        }
    }
    idle
}

/// The ops that may follow.
fn successors(ops: &[Op], at: usize) -> Vec<usize> {
    match &ops[at] {
        Op::Goto(to) => vec![*to],
        Op::If(_, to) | Op::Either(to) | Op::Maybe(to) | Op::Pick(to) => vec![at + 1, *to],
        Op::Step(Step { kind: Kind::Stop, .. }) => vec![],
        Op::Step(_) | Op::Set(..) | Op::Mark(_) | Op::Others | Op::Keep | Op::Resume => vec![at + 1],
    }
}

fn bit(reg: Option<Reg>) -> u32 {
    reg.map_or(0, |reg| 1 << reg.0)
}

fn read_by(condition: &Cond) -> u32 {
    match *condition {
        Cond::Always => 0,
        Cond::Eq(reg, value) | Cond::Ne(reg, value) => bit(Some(reg)) | bit(value.reg()),
        Cond::Any(reg, _) | Cond::None(reg, _) => bit(Some(reg)),
        Cond::Both(a, x, b, y) => bit(Some(a)) | bit(x.reg()) | bit(Some(b)) | bit(y.reg()),
    }
}

fn indexed_by(at: &At) -> u32 {
    match at {
        At::Slot(_, index) => bit(index.reg()),
        At::Picked(_) => PICKED,
        At::Var(_) | At::Own(_) => 0,
    }
}

/// Registers live before an op, from those live after it.
fn live_before(op: &Op, after: u32) -> u32 {
    match op {
        Op::If(condition, _) => after | read_by(condition),
        Op::Set(reg, value) => (after & !bit(Some(*reg))) | bit(value.reg()),
        Op::Goto(_) | Op::Either(_) | Op::Maybe(_) | Op::Mark(_) => after,
        Op::Others => after & !LEFT,
        Op::Pick(_) => (after & !PICKED) | LEFT,
        Op::Keep if after & KEPT != 0 => (after & !KEPT) | LEFT | PICKED,
        Op::Keep => after,
        Op::Resume => (after & !(LEFT | PICKED)) | KEPT,
        Op::Step(step) if step.kind == Kind::Stop => step
            .acts
            .iter()
            .fold(0, |kept, act| if let Act::Put(.., kept_reg) = act { kept | read_by(kept_reg) } else { kept }),
        Op::Step(step) => {
            let mut live = after;
            if let Kind::Await(condition) = &step.kind {
                live |= read_by(condition);
            }
            for act in step.acts.iter().rev() {
                match act {
                    Act::Put(at, value, condition) => {
                        live |= read_by(condition) | bit(value.reg()) | indexed_by(at);
                    }
                    Act::Get(reg, at) => live = (live & !bit(Some(*reg))) | indexed_by(at),
                    Act::GetIf(_, at, condition) => live |= read_by(condition) | indexed_by(at),
                }
            }
            match &step.kind {
                Kind::FutexWait(at, value) => live | indexed_by(at) | bit(value.reg()),
                Kind::FutexWake(at) | Kind::FutexWakeOne(at) => live | indexed_by(at),
                _ => live,
            }
        }
    }
}

/// Which registers may still be read, before each op: the usual fixed point.
pub(super) fn liveness(ops: &[Op]) -> Vec<u32> {
    let mut live = vec![0; ops.len()];
    loop {
        let mut changed = false;
        for at in (0..ops.len()).rev() {
            let after = successors(ops, at).into_iter().fold(0, |after, next| after | live[next]);
            let before = live_before(&ops[at], after);
            changed |= before != live[at];
            live[at] = before;
        }
        if !changed {
            return live;
        }
    }
}

/// The longest row of stores without a step that waits for an empty buffer.
pub(super) fn buffered(ops: &[Op]) -> Result<usize> {
    const LIMIT: usize = 6;
    let mut held = vec![0; ops.len()];
    loop {
        let mut changed = false;
        for at in 0..ops.len() {
            let after = match &ops[at] {
                Op::Step(Step { kind: Kind::Write, .. }) => held[at] + 1,
                Op::Step(Step {
                    kind: Kind::Locked | Kind::Fence | Kind::Membarrier | Kind::FutexWait(..), ..
                }) => 0,
                _ => held[at],
            };
            if after > LIMIT {
                return Err(Error::lock("a loop stores without ever waiting for an empty store buffer"));
            }
            for next in successors(ops, at) {
                changed |= held[next] < after;
                held[next] = held[next].max(after);
            }
        }
        if !changed {
            let stores = |at: &usize| matches!(&ops[*at], Op::Step(Step { kind: Kind::Write, .. }));
            return Ok((0..ops.len()).filter(stores).map(|at| held[at] + 1).max().unwrap_or(0));
        }
    }
}
