//! CPU features: one bit each, for every row keyed on it.
//!
//! A cluster of several features votes on one of them once the others are decided, so they are decided in turns: first
//! those that most sites vote on.

use std::collections::BTreeMap;

use super::{ENOUGH, Inference, Unknown};
use crate::plan::Pass;
use crate::verify::form::{SHORT, same};
use crate::verify::state::Branches;
use crate::verify::visit::Kind;

/// A cluster of more features than this is not searched: none has four.
const MOST_FEATURES: usize = 6;

impl Inference<'_, '_, '_> {
    pub(super) fn features(&mut self) {
        let map = self.map;
        let Some(table) = &map.tables.alternatives else { return };
        let mut decided: BTreeMap<u16, bool> =
            self.known.features.iter().map(|(&number, &is_there)| (number, is_there)).collect();
        let numbers = map.info.numbers;
        let mode = self.state.branches;
        if self.settled(Unknown::Branches) {
            let states = [
                (
                    numbers.retpoline,
                    (!mode.fenced()).then_some(matches!(mode, Branches::Retpolines | Branches::Counted)),
                ),
                (numbers.retpoline_lfence, Some(mode.fenced())),
                (numbers.its, (mode != Branches::Retpolines).then_some(mode.its())),
                (numbers.call_depth, (!mode.fenced()).then_some(mode == Branches::Counted)),
            ];
            for (number, state) in states {
                if let (Some(number), Some(state)) = (number, state) {
                    decided.entry(number).or_insert(state);
                }
            }
        }
        if let (Some(rethunk), true) = (numbers.rethunk, self.settled(Unknown::Returns)) {
            decided.entry(rethunk).or_insert(self.state.return_thunk.is_some());
        }
        let settled: Vec<u16> = decided.keys().copied().collect();
        let mut present: Vec<u16> = table.rows.iter().map(|row| row.feature).collect();
        present.sort_unstable();
        present.dedup();
        if let Some(&last) = present.last() {
            self.state.features = vec![0; usize::from(last / 32) + 1];
        }
        for (&number, &present) in &decided {
            self.state.set(number, present);
        }
        let (constraints, changed) = self.constraints(&decided);
        while let Some(turn) = next_turn(&constraints, &decided) {
            decided.extend(turn);
        }
        // Of a feature that no site tells of, as each holds something else, the nearer form decides.
        for &feature in &present {
            if !decided.contains_key(&feature)
                && let Some(value) = nearer(&changed, &decided, feature)
            {
                decided.insert(feature, value);
            }
        }
        let mut counts: BTreeMap<u16, [u32; 2]> = BTreeMap::new();
        for constraint in &constraints {
            for (at, &feature) in constraint.features.iter().enumerate() {
                // What the site says of this one, all others being as they are.
                let others = constraint.restricted(&decided, Some(at));
                let says = |value: u8| others.iter().any(|&m| m >> at & 1 == value);
                match (says(0), says(1)) {
                    (true, false) => counts.entry(feature).or_default()[0] += constraint.sites,
                    (false, true) => counts.entry(feature).or_default()[1] += constraint.sites,
                    _ => {}
                }
            }
        }
        for feature in present {
            let value = decided.get(&feature).copied().unwrap_or(false);
            self.state.set(feature, value);
            let count = counts.get(&feature).copied().unwrap_or_default();
            let (votes, against) = (count[usize::from(value)], count[usize::from(!value)]);
            let from_tables = settled.contains(&feature) && !self.known.features.contains_key(&feature);
            let votes = votes + if from_tables { self.table_votes(feature) } else { 0 };
            self.vote(
                Unknown::Feature(feature),
                value.into(),
                votes,
                against,
                self.known.features.contains_key(&feature),
            );
        }
    }

    /// How many sites of other tables said what a feature is.
    fn table_votes(&self, feature: u16) -> u32 {
        let about = if self.map.info.numbers.rethunk == Some(feature) { Unknown::Returns } else { Unknown::Branches };
        self.votes.iter().find(|vote| vote.about == about).map_or(0, |vote| vote.votes)
    }

    /// What each site of `.altinstructions` says; and those that hold no legal form.
    fn constraints(&mut self, decided: &BTreeMap<u16, bool>) -> (Vec<Constraint>, Vec<Changed>) {
        let map = self.map;
        let mut changed = Vec::new();
        // How many clusters say the same of the same features.
        let mut alike: BTreeMap<_, u32> = BTreeMap::new();
        let Some(table) = &map.tables.alternatives else { return (Vec::new(), changed) };
        for cluster in map.group(Pass::Alternatives) {
            let mut features: Vec<u16> = Vec::new();
            for visit in map.visits(cluster) {
                if let Kind::Alternatives { first, count } = visit.kind {
                    for row in &table.rows[first as usize..first as usize + usize::from(count)] {
                        if !decided.contains_key(&row.feature) && !features.contains(&row.feature) {
                            features.push(row.feature);
                        }
                    }
                }
            }
            if features.is_empty() || features.len() > MOST_FEATURES {
                continue;
            }
            let Some(found) = cluster.found(self.view) else { continue };
            let all = 1u8 << features.len();
            let (mut fitting, mut distances) = (Vec::new(), Vec::new());
            for assignment in 0..all {
                for (at, &feature) in features.iter().enumerate() {
                    self.state.set(feature, assignment >> at & 1 != 0);
                }
                let mut short = [0; SHORT];
                let form = map.form_in(cluster, &self.state, &mut short, &mut self.form);
                distances.push(form.iter().zip(found).filter(|(a, b)| a != b).count());
                if same(form, found) {
                    fitting.push(assignment);
                }
            }
            for &feature in &features {
                self.state.set(feature, false);
            }
            if fitting.is_empty() {
                changed.push(Changed { features, distances });
            } else if fitting.len() < usize::from(all) {
                *alike.entry((features, fitting)).or_default() += 1;
            }
        }
        let constraint = |((features, fitting), sites)| Constraint { features, fitting, sites };
        (alike.into_iter().map(constraint).collect(), changed)
    }
}

/// A cluster that holds none of its forms: the features it depends on, and for each assignment of them (a bit a feature)
/// how many bytes are not as it makes them.
struct Changed {
    features: Vec<u16>,
    distances: Vec<usize>,
}

/// The value of a feature that clusters without a legal form are nearer to, those that are not decided being absent.
fn nearer(changed: &[Changed], decided: &BTreeMap<u16, bool>, feature: u16) -> Option<bool> {
    let mut distances = [0, 0];
    for cluster in changed {
        let Some(at) = cluster.features.iter().position(|&other| other == feature) else { continue };
        let set = cluster.features.iter().enumerate().filter(|(_, other)| decided.get(other).is_some_and(|&v| v));
        let others = set.fold(0, |all, (other, _)| all | 1usize << other);
        for (value, distance) in distances.iter_mut().enumerate() {
            *distance += cluster.distances.get(others | value << at).copied().unwrap_or(0);
        }
    }
    (distances[0] != distances[1]).then_some(distances[1] < distances[0])
}

/// What clusters that say the same say of the features they depend on: the assignments that explain them, a bit a feature.
struct Constraint {
    features: Vec<u16>,
    fitting: Vec<u8>,
    /// How many clusters these are.
    sites: u32,
}

impl Constraint {
    /// The assignments that agree with what is decided, the feature `free` aside.
    fn restricted(&self, decided: &BTreeMap<u16, bool>, free: Option<usize>) -> Vec<u8> {
        let agrees = |m: u8| {
            self.features.iter().enumerate().all(|(at, feature)| {
                free == Some(at) || decided.get(feature).is_none_or(|&value| value == (m >> at & 1 != 0))
            })
        };
        self.fitting.iter().copied().filter(|&m| agrees(m)).collect()
    }
}

/// What can be decided next: all features that enough sites vote on, else the one that most sites vote on.
fn next_turn(constraints: &[Constraint], decided: &BTreeMap<u16, bool>) -> Option<Vec<(u16, bool)>> {
    let mut counts: BTreeMap<u16, [u32; 2]> = BTreeMap::new();
    for constraint in constraints {
        if constraint.features.iter().all(|feature| decided.contains_key(feature)) {
            continue;
        }
        let rest = constraint.restricted(decided, None);
        let Some(&first) = rest.first() else { continue };
        for (at, feature) in constraint.features.iter().enumerate() {
            let value = first >> at & 1;
            if !decided.contains_key(feature) && rest.iter().all(|m| m >> at & 1 == value) {
                counts.entry(*feature).or_default()[usize::from(value)] += constraint.sites;
            }
        }
    }
    let strong = |count: &[u32; 2]| count[0].max(count[1]);
    let many: Vec<(u16, bool)> = counts
        .iter()
        .filter(|(_, count)| strong(count) >= ENOUGH)
        .map(|(&f, count)| (f, count[1] > count[0]))
        .collect();
    if !many.is_empty() {
        return Some(many);
    }
    let one = counts.iter().max_by_key(|&(&feature, count)| (strong(count), u16::MAX - feature));
    one.map(|(&feature, count)| vec![(feature, count[1] > count[0])])
}
