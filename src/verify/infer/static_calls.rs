//! Static calls: one target for all sites of a key, and its trampoline.

use super::tally::Tally;
use super::{Inference, Unknown};
use crate::insn::{CALL, JMP};
use crate::plan::Pass;
use crate::verify::state::Target;
use crate::verify::visit::Kind;

impl Inference<'_, '_, '_> {
    pub(super) fn calls(&mut self) {
        let map = self.map;
        let mut tallies: Vec<Tally<Target>> = Vec::new();
        tallies.resize_with(map.calls.len(), Tally::new);
        let mut voters = vec![0u32; map.calls.len()];
        let returning = [map.marks.return0, map.marks.warn_trap, map.marks.native_unlock];
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
            let target = target.filter(|&t| map.is_function(t) || self.is_page(map.calls[usize::from(key)].0, t));
            let others = returning.iter().copied().flatten().chain(target).chain([0]);
            let mut candidates: Vec<Target> = match target {
                // Only an update to this very function makes such a branch; a jump to the return thunk has several causes.
                Some(target) if Some(target) != self.state.return_thunk => vec![Target::Built, Target::Updated(target)],
                _ => [Target::Built, Target::Cleared].into_iter().chain(others.map(Target::Updated)).collect(),
            };
            candidates.sort_unstable();
            candidates.dedup();
            for candidate in candidates {
                self.state.calls[usize::from(key)] = candidate;
                if self.fits(cluster) {
                    tallies[usize::from(key)].add(candidate);
                }
            }
            self.state.calls[usize::from(key)] = Target::Built;
        }
        self.call_tallies = tallies;
        for (index, &(address, built)) in map.calls.iter().enumerate() {
            let tally = &self.call_tallies[index];
            // A target on a page outside counts only where another static call tells of the backend that has the page.
            let paged = |target: &Target| matches!(*target, Target::Updated(t) if self.is_page(address, t));
            let unpaged = || tally.0.keys().find(|target| !paged(target)).copied();
            let known = self.known.calls.get(&address).map(|&function| {
                let never = function == built && tally.0.get(&Target::Built) >= tally.0.get(&Target::Updated(function));
                if never { Target::Built } else { Target::Updated(function) }
            });
            let chosen = known
                .or_else(|| tally.winner().map(|(target, ..)| target))
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
