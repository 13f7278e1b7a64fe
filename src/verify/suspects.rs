//! Ties: where as many sites vote for one value of an unknown as for another, any of them may be the one that was changed.

use super::infer::{Unknown, Vote};
use super::site_map::{Cluster, SiteMap};
use super::state::{State, Target};
use super::view::View;
use super::visit::Kind;
use crate::insn::{CALL, JMP};
use crate::plan::Pass;

/// The sites that disagree about what this cluster depends on, where at least as many vote as it does as against it;
/// itself among them. Empty where it is outvoted, or says nothing.
pub(super) fn of(map: &SiteMap<'_>, view: &View<'_>, state: &State, votes: &[Vote], cluster: &Cluster) -> Vec<u64> {
    let Some(found) = cluster.found(view) else { return Vec::new() };
    let given = |about: Unknown| votes.iter().any(|vote| vote.about == about && vote.known);
    let mut form = Vec::new();
    for visit in map.visits(cluster) {
        for (about, other) in flips(map, view, state, cluster, visit.kind, visit.address) {
            map.form(cluster, &other, &mut form);
            if form != found || given(about) {
                continue;
            }
            let (mut for_other, mut for_state, mut suspects) = (0, 0, Vec::new());
            let mut should = Vec::new();
            for voter in voters(map, about) {
                let Some(found) = voter.found(view) else { continue };
                map.form(voter, state, &mut should);
                map.form(voter, &other, &mut form);
                if should != form {
                    for_other += u32::from(form == found);
                    for_state += u32::from(should == found);
                    suspects.push(voter.start);
                }
            }
            if for_other >= for_state {
                return suspects;
            }
        }
    }
    Vec::new()
}

/// The states that differ in one value, for which a site may vote.
fn flips(
    map: &SiteMap<'_>,
    view: &View<'_>,
    state: &State,
    cluster: &Cluster,
    kind: Kind,
    address: u64,
) -> Vec<(Unknown, State)> {
    let found = view.bytes(address, (cluster.end().saturating_sub(address)) as usize).unwrap_or_default();
    let target = match *found {
        [CALL | JMP, a, b, c, d, ..] => Some(map.code.target(address, 5, &[a, b, c, d])),
        [0x0f, 0x80..=0x8f, a, b, c, d, ..] => Some(map.code.target(address, 6, &[a, b, c, d])),
        _ => None,
    };
    let mut flips = Vec::new();
    let mut flip = |about, change: &dyn Fn(&mut State)| {
        let mut other = state.clone();
        change(&mut other);
        flips.push((about, other));
    };
    match kind {
        Kind::Jump { key, .. } => {
            let at = usize::from(key);
            flip(Unknown::Key(map.keys[at].0), &|other| other.keys[at] = !state.keys[at]);
        }
        Kind::Call { key, .. } | Kind::Trampoline { key: Some(key), .. } => {
            let at = usize::from(key);
            let functions = target.into_iter().chain([0]).map(Target::Updated);
            for value in functions.chain([Target::Built, Target::Cleared]) {
                flip(Unknown::Call(map.calls[at].0), &|other| other.calls[at] = value);
            }
        }
        Kind::Paravirt { slot, .. } => {
            let at = usize::from(slot);
            let identities = map.info.ops.identities.iter().map(|&(function, _)| function);
            let values = target.into_iter().chain(map.info.ops.nop).chain(identities).chain([0]);
            for value in values {
                flip(Unknown::Slot(map.slots[at].address), &|other| other.slots[at] = value);
            }
        }
        Kind::Constant { table, .. } => {
            let mut bytes = [0; 8];
            let width = usize::from(map.tables.constants[usize::from(table)].width).min(8);
            if let Some(value) = found.get(..width) {
                bytes[..width].copy_from_slice(value);
                let value = u64::from_le_bytes(bytes);
                flip(Unknown::Constant(table), &|other| other.constants[usize::from(table)] = value);
            }
        }
        Kind::Alternatives { first, count } => {
            let Some(table) = &map.tables.alternatives else { return flips };
            for row in first as usize..first as usize + usize::from(count) {
                let feature = table.rows[row].feature;
                flip(Unknown::Feature(feature), &|other| other.set(feature, !state.has(feature)));
                if let Some(&Some(slot)) = map.row_slots.get(row) {
                    let at = usize::from(slot);
                    for value in target.into_iter().chain(map.landmarks.nop).chain([0]) {
                        flip(Unknown::Slot(map.slots[at].address), &|other| other.slots[at] = value);
                    }
                }
            }
        }
        _ => {}
    }
    flips
}

/// The clusters in `.text` that depend on an unknown.
fn voters<'m>(map: &'m SiteMap<'_>, about: Unknown) -> Vec<&'m Cluster> {
    let feature = |row: usize| map.tables.alternatives.as_ref().map(|table| table.rows[row].feature);
    let hangs = |kind: Kind| match (kind, about) {
        (Kind::Jump { key, .. }, Unknown::Key(address)) => map.keys[usize::from(key)].0 == address,
        (Kind::Call { key, .. } | Kind::Trampoline { key: Some(key), .. }, Unknown::Call(address)) => {
            map.calls[usize::from(key)].0 == address
        }
        (Kind::Paravirt { slot, .. }, Unknown::Slot(address)) => map.slots[usize::from(slot)].address == address,
        (Kind::Constant { table, .. }, Unknown::Constant(number)) => table == number,
        (Kind::Alternatives { first, count }, _) => {
            (first as usize..first as usize + usize::from(count)).any(|row| match about {
                Unknown::Feature(number) => feature(row) == Some(number),
                Unknown::Slot(address) => {
                    let slot = map.row_slots.get(row).copied().flatten();
                    slot.is_some_and(|slot| map.slots[usize::from(slot)].address == address)
                }
                _ => false,
            })
        }
        _ => false,
    };
    let passes: &[Pass] = match about {
        Unknown::Key(_) => &[Pass::JumpLabels],
        Unknown::Call(_) => &[Pass::StaticCalls, Pass::Trampolines],
        Unknown::Slot(_) => &[Pass::Paravirt, Pass::Alternatives],
        Unknown::Constant(_) => &[Pass::RuntimeConst],
        Unknown::Feature(_) => &[Pass::Alternatives],
        _ => &[],
    };
    let mut voters: Vec<&Cluster> = Vec::new();
    for &pass in passes {
        voters.extend(map.group(pass).filter(|cluster| map.visits(cluster).iter().any(|visit| hangs(visit.kind))));
    }
    voters.sort_unstable_by_key(|cluster| cluster.start);
    voters.dedup_by_key(|cluster| cluster.start);
    voters
}
