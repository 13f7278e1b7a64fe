//! Who else writes text at run time, as far as unexplained bytes look like it.

use std::ops::Range;

use super::clusters::{Cluster, SiteMap};
use super::nearest::nearest;
use super::pieces::Kind;
use super::state::State;
use crate::insn::{self, CALL, INT3, JMP};

/// Who writes text at run time, besides the passes. Its looks prove nothing: an attacker can write the same. So
/// it is unexplained, unless the user allows it.
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
pub(super) fn instruction(map: &SiteMap<'_>, text: &[u8], run: &Range<usize>) -> Range<usize> {
    let start = map.text.0;
    let address = start + run.start as u64;
    let after = map.functions.partition_point(|&function| function <= address);
    let function = after.checked_sub(1).map_or(start, |at| map.functions[at].max(start));
    let mut at = (function - start) as usize;
    let mut from = run.start;
    while at < run.end {
        let Some(step) = insn::step(map.bits, &text[at..]) else { break };
        if at + step.len > run.start {
            from = from.min(at);
        }
        at += step.len;
    }
    from..at.max(run.end)
}

/// Whose it looks like, and what it is nearest to.
pub(super) fn recognise(
    map: &SiteMap<'_>,
    state: &State,
    cluster: Option<&Cluster>,
    address: u64,
    found: &[u8],
) -> (Option<Owner>, Option<String>) {
    let target = match *found {
        [CALL | JMP, a, b, c, d, ..] => Some(map.code.target(address, 5, &[a, b, c, d])),
        _ => None,
    };
    let outside = target.is_some_and(|target| map.code.from(target).is_empty() && !map.is_function(target));
    let what = cluster.and_then(|cluster| map.pieces(cluster).last()).map(|piece| piece.kind);
    let tracer = target.is_some_and(|target| outside || map.tracers.contains(&target));
    let owner = match what {
        _ if map.tracer_calls.contains(&address) && target.is_some_and(|target| map.is_function(target)) => {
            Some(Owner::Ftrace)
        }
        Some(Kind::Mcount(_)) if found[0] == CALL && tracer => Some(Owner::Ftrace),
        Some(Kind::Call { .. } | Kind::Trampoline { .. }) if outside => Some(Owner::Modules),
        _ if outside && (found[0] == CALL || in_bpf(map, address)) => Some(Owner::Bpf),
        _ if found[0] == INT3 || outside && found[0] == JMP => Some(Owner::Kprobes),
        _ => None,
    };
    (owner, cluster.and_then(|cluster| nearest(map, state, cluster, found)))
}

fn in_bpf(map: &SiteMap<'_>, address: u64) -> bool {
    map.bpf.iter().any(|&(start, end)| (start..end).contains(&address))
}
