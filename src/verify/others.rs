//! What unexplained bytes look like: other owners of text, and the legal form they are nearest to.

use std::ops::Range;

use super::sheet::{Cluster, Sheet, What};
use super::state::{State, Target};
use crate::insn::{self, CALL, INT3, JMP};

/// Who writes text at run time, besides the passes. What it looks like proves nothing: whoever means harm can write the
/// same. So it is unexplained, unless the user allows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owner {
    /// A call of a tracer at the head of a function, or behind it: ftrace, or livepatch through it.
    Ftrace,
    /// A breakpoint, or a jump out of the kernel in the middle of a function: kprobes.
    Kprobes,
    /// A call or jump to code outside the kernel at a place BPF attaches to.
    Bpf,
    /// A static call of a function in a module.
    Modules,
}

impl Owner {
    /// The name the command line uses.
    pub fn name(self) -> &'static str {
        match self {
            Owner::Ftrace => "ftrace",
            Owner::Kprobes => "kprobes",
            Owner::Bpf => "bpf",
            Owner::Modules => "modules",
        }
    }
}

/// Where the instruction that holds these bytes begins and ends, as far as the function's code tells.
pub(super) fn instruction(sheet: &Sheet<'_>, text: &[u8], run: &Range<usize>) -> Range<usize> {
    let start = sheet.text.0;
    let address = start + run.start as u64;
    let after = sheet.functions.partition_point(|&function| function <= address);
    let function = after.checked_sub(1).map_or(start, |at| sheet.functions[at].max(start));
    let mut at = (function - start) as usize;
    let mut from = run.start;
    while at < run.end {
        let Some(step) = insn::step(sheet.bits, &text[at..]) else { break };
        if at + step.len > run.start {
            from = from.min(at);
        }
        at += step.len;
    }
    from..at.max(run.end)
}

/// Whose it looks like, and what it is nearest to.
pub(super) fn recognise(
    sheet: &Sheet<'_>,
    state: &State,
    cluster: Option<&Cluster>,
    address: u64,
    found: &[u8],
) -> (Option<Owner>, Option<String>) {
    let target = match *found {
        [CALL | JMP, a, b, c, d, ..] => Some(sheet.code.target(address, 5, &[a, b, c, d])),
        _ => None,
    };
    let outside = target.is_some_and(|target| sheet.code.from(target).is_empty() && !sheet.is_function(target));
    let what = cluster.and_then(|cluster| sheet.pieces(cluster).last()).map(|piece| piece.what);
    let tracer = target.is_some_and(|target| outside || sheet.tracers.contains(&target));
    let owner = match what {
        _ if sheet.tracer_calls.contains(&address) && target.is_some_and(|target| sheet.is_function(target)) => {
            Some(Owner::Ftrace)
        }
        Some(What::Mcount(_)) if found[0] == CALL && tracer => Some(Owner::Ftrace),
        Some(What::Call { .. } | What::Trampoline { .. }) if outside => Some(Owner::Modules),
        _ if outside && (found[0] == CALL || in_bpf(sheet, address)) => Some(Owner::Bpf),
        _ if found[0] == INT3 || outside && found[0] == JMP => Some(Owner::Kprobes),
        _ => None,
    };
    (owner, cluster.and_then(|cluster| nearest(sheet, state, cluster, found)))
}

fn in_bpf(sheet: &Sheet<'_>, address: u64) -> bool {
    sheet.bpf.iter().any(|&(start, end)| (start..end).contains(&address))
}

/// The legal form these bytes have, though the many speak against it; else the one they are nearest to.
fn nearest(sheet: &Sheet<'_>, state: &State, cluster: &Cluster, found: &[u8]) -> Option<String> {
    let mut best: Option<(usize, String)> = None;
    let mut form = Vec::new();
    let mut offer = |other: &State, words: &dyn Fn() -> String| {
        sheet.form(cluster, other, &mut form);
        let distance = form.iter().zip(found).filter(|(a, b)| a != b).count();
        if best.as_ref().is_none_or(|(least, _)| distance < *least) {
            best = Some((distance, words()));
        }
    };
    offer(state, &|| "the form it should have".to_owned());
    let mut other = state.clone();
    for piece in sheet.pieces(cluster) {
        match piece.what {
            What::Lock(_) => {
                other.uniprocessor = !state.uniprocessor;
                offer(&other, &|| format!("the form for {}", if state.uniprocessor { "more CPUs" } else { "one CPU" }));
            }
            What::Jump { key, .. } => {
                other.keys[usize::from(key)] = !state.keys[usize::from(key)];
                let now = if state.keys[usize::from(key)] { "off" } else { "on" };
                offer(&other, &|| format!("the form where its key is {now}"));
            }
            What::Mcount(_) => {
                other.untraced = !state.untraced;
                offer(&other, &|| "the call of the tracer, as built".to_owned());
            }
            What::Endbr(_) => {
                other.sealed = !state.sealed;
                offer(&other, &|| "the endbr, as built".to_owned());
            }
            What::Alternatives { first, count } => {
                let Some(table) = &sheet.tables.alternatives else { continue };
                for row in &table.rows[first as usize..first as usize + usize::from(count)] {
                    other.set(row.feature, !state.has(row.feature));
                    let with = if state.has(row.feature) { "without" } else { "with" };
                    let (word, bit) = (row.feature / 32, row.feature % 32);
                    offer(&other, &|| format!("the form {with} feature {word}*32+{bit}"));
                    other.set(row.feature, state.has(row.feature));
                }
            }
            What::Return(_) => {
                other.return_thunk = if state.return_thunk.is_some() { None } else { sheet.marks.return_thunk };
                offer(&other, &|| "the form with another return thunk, or none".to_owned());
            }
            What::Retpoline(_) => {
                for mode in super::Branches::ALL {
                    other.branches = mode;
                    offer(&other, &|| format!("the form with {}", mode.name()));
                }
            }
            What::Call { key, .. } | What::Trampoline { key: Some(key), .. } => {
                other.calls[usize::from(key)] = Target::Updated(0);
                offer(&other, &|| "the form of a static call without target".to_owned());
            }
            _ => {}
        }
        other.clone_from(state);
    }
    best.filter(|(distance, _)| *distance < found.len()).map(|(distance, words)| match distance {
        0 => format!("{words}, which other sites speak against"),
        1 => format!("one byte off {words}"),
        n => format!("{n} bytes off {words}"),
    })
}
