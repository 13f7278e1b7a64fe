//! Static calls: one target for all sites of a key, and its trampoline.

use super::tally::Tally;
use super::{Inference, Unknown};
use crate::insn::{CALL, JMP};
use crate::plan::Pass;
use crate::verify::site_map::{Cluster, SiteMap};
use crate::verify::state::Target;
use crate::verify::visit::Kind;

impl Inference<'_, '_, '_> {
    pub(super) fn calls(&mut self) {
        let map = self.map;
        let mut tallies: Vec<Tally<Target>> = Vec::new();
        tallies.resize_with(map.calls.len(), Tally::new);
        let mut voters = vec![0u32; map.calls.len()];
        // What holds no legal form.
        let mut changed: Vec<(u16, &Cluster)> = Vec::new();
        let returning = [map.landmarks.return0, map.landmarks.warn_trap, map.landmarks.native_unlock];
        // No cluster has both a site and a trampoline: no site reaches from one function into another.
        for cluster in map.group(Pass::StaticCalls).chain(map.group(Pass::Trampolines)) {
            let key = map.visits(cluster).iter().find_map(|visit| match visit.kind {
                Kind::Call { key, .. } | Kind::Trampoline { key: Some(key), .. } => Some((key, visit.address)),
                _ => None,
            });
            let (Some((key, address)), Some(found)) = (key, cluster.found(self.view)) else { continue };
            voters[usize::from(key)] += 1;
            let here = (address - cluster.start) as usize;
            let target = match found.get(here..).unwrap_or_default() {
                [CALL | JMP, a, b, c, d, ..] => Some(map.code.target(address, 5, &[*a, *b, *c, *d])),
                [0x0f, 0x80..=0x8f, a, b, c, d, ..] => Some(map.code.target(address, 6, &[*a, *b, *c, *d])),
                _ => None,
            };
            let target = target.map(|target| map.meant(&self.state, target));
            let target = target.filter(|&t| {
                map.is_function(t) && !is_trampoline(map, t) || self.is_page(map.calls[usize::from(key)].0, t)
            });
            let others = returning.iter().copied().flatten().chain(target).chain([0]);
            let mut candidates: Vec<Target> = match target {
                // Only an update to this very function makes such a branch; a jump to the return thunk has several causes.
                Some(target) if Some(target) != self.state.return_thunk => vec![Target::Built, Target::Updated(target)],
                _ => [Target::Built, Target::Cleared].into_iter().chain(others.map(Target::Updated)).collect(),
            };
            candidates.sort_unstable();
            candidates.dedup();
            let mut fits = false;
            for candidate in candidates {
                self.state.calls[usize::from(key)] = candidate;
                if self.fits(cluster) {
                    tallies[usize::from(key)].add(candidate);
                    fits = true;
                }
            }
            if !fits {
                changed.push((key, cluster));
            }
            self.state.calls[usize::from(key)] = Target::Built;
        }
        let most: Vec<Option<Target>> =
            (0..map.calls.len()).map(|key| self.most(key, &tallies[key], &changed)).collect();
        self.call_tallies = tallies;
        for (index, &(address, built)) in map.calls.iter().enumerate() {
            let tally = &self.call_tallies[index];
            // A target on a page outside counts only where another static call tells of the backend that has the page.
            let paged = |target: &Target| matches!(*target, Target::Updated(t) if self.is_page(address, t));
            let unpaged = || tally.0.keys().find(|target| !paged(target)).copied();
            let known = self.known.calls.get(&address).map(|&function| {
                let as_many = |other| tally.0.get(&other) >= tally.0.get(&Target::Updated(function));
                if function == built && as_many(Target::Built) {
                    Target::Built
                } else if function == built && built == 0 && as_many(Target::Cleared) {
                    Target::Cleared
                } else {
                    Target::Updated(function)
                }
            });
            let most = most[index];
            let chosen = known
                .or(most)
                .filter(|target| !paged(target) || self.is_page_s(address))
                .or_else(unpaged)
                .unwrap_or(Target::Built);
            let votes = tally.0.get(&chosen).copied().unwrap_or(0);
            self.state.calls[index] = chosen;
            let value = match chosen {
                Target::Built => built,
                Target::Cleared => 0,
                Target::Updated(function) => function,
            };
            self.vote(Unknown::Call(address), value, votes, voters[index] - votes, known.is_some());
        }
    }

    /// Where most sites say that a call goes. Of several that as many say, where the image was built to go; else what those
    /// are nearer to that hold no legal form.
    fn most(&mut self, key: usize, tally: &Tally<Target>, changed: &[(u16, &Cluster)]) -> Option<Target> {
        let map = self.map;
        let most = tally.0.values().max().copied();
        let mut equal: Vec<Target> = tally.0.iter().filter(|&(_, n)| Some(*n) == most).map(|(&t, _)| t).collect();
        if equal.is_empty() && changed.iter().any(|&(of, _)| usize::from(of) == key) {
            let returning = [map.landmarks.return0, map.landmarks.warn_trap, map.landmarks.native_unlock];
            let updated = returning.into_iter().flatten().chain([0]).map(Target::Updated);
            equal = [Target::Built, Target::Cleared].into_iter().chain(updated).collect();
        }
        if equal.len() < 2 {
            return equal.first().copied();
        }
        // One that went nowhere and is written as a `ret` was cleared again.
        let built = match map.calls[key].1 {
            0 if !equal.contains(&Target::Built) => Target::Cleared,
            function => Target::Updated(function),
        };
        let mut best = None;
        for target in equal {
            self.state.calls[key] = target;
            let mut distance = 0;
            for &(_, cluster) in changed.iter().filter(|&&(of, _)| usize::from(of) == key) {
                map.form(cluster, &self.state, &mut self.form);
                let found = cluster.found(self.view).unwrap_or_default();
                distance += self.form.iter().zip(found).filter(|(a, b)| a != b).count();
            }
            let rank = (target != built, distance, target);
            if best.is_none_or(|best| rank < best) {
                best = Some(rank);
            }
        }
        self.state.calls[key] = Target::Built;
        best.map(|(.., target)| target)
    }

    /// Whether a static call may go to this page outside the kernel.
    fn is_page(&self, key: u64, target: u64) -> bool {
        let paged = self.map.info.backends.iter().any(|backend| backend.page == Some(key));
        paged && target.is_multiple_of(4096) && target >= self.map.end
    }

    /// Whether another static call goes to a function of the backend that has this call go to a page outside.
    fn is_page_s(&self, key: u64) -> bool {
        let given = self.known.backend.as_ref();
        let calls = self.map.calls.iter().zip(&self.call_tallies);
        self.map.info.backends.iter().filter(|backend| backend.page == Some(key)).any(|backend| {
            let of_backend = |(&(key, built), tally): (&(u64, u64), &Tally<Target>)| {
                let winner = tally.winner().map(|(target, ..)| target);
                let functions = backend.calls.get(&key);
                matches!(winner, Some(Target::Updated(f)) if f != built && functions.is_some_and(|list| list.contains(&f)))
            };
            given.is_none_or(|name| *name == backend.name) && (given.is_some() || calls.clone().any(of_backend))
        })
    }
}

/// Whether a static call's trampoline is here: no other call goes there.
fn is_trampoline(map: &SiteMap<'_>, address: u64) -> bool {
    map.tables.trampolines.binary_search_by_key(&address, |trampoline| trampoline.address).is_ok()
}
