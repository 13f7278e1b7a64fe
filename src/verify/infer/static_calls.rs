//! Static calls: one target for all sites of a key, and its trampoline.

use super::tally::Tally;
use super::{Inference, Unknown};
use crate::insn::{CALL, JMP};
use crate::plan::Pass;
use crate::verify::pieces::Kind;
use crate::verify::state::Target;

impl Inference<'_, '_, '_> {
    pub(super) fn calls(&mut self) {
        let map = self.map;
        let mut tallies: Vec<Tally<Target>> = Vec::new();
        tallies.resize_with(map.calls.len(), Tally::new);
        let mut voters = vec![0u32; map.calls.len()];
        let returning = [map.marks.return0, map.marks.warn_trap, map.marks.native_unlock];
        // None is both: a trampoline is a function.
        for cluster in map.group(Pass::StaticCalls).chain(map.group(Pass::Trampolines)) {
            let key = map.pieces(cluster).iter().find_map(|piece| match piece.kind {
                Kind::Call { key, .. } | Kind::Trampoline { key: Some(key), .. } => Some((key, piece.address)),
                _ => None,
            });
            let (Some((key, address)), Some(found)) = (key, self.view.found(cluster)) else { continue };
            voters[usize::from(key)] += 1;
            let here = (address - cluster.start) as usize;
            let target = match found.get(here..).unwrap_or_default() {
                [CALL | JMP, a, b, c, d, ..] => Some(map.code.target(address, 5, &[*a, *b, *c, *d])),
                [0x0f, 0x80..=0x8f, a, b, c, d, ..] => Some(map.code.target(address, 6, &[*a, *b, *c, *d])),
                _ => None,
            };
            let target = target.map(|target| map.meant(&self.state, target)).filter(|&t| map.is_function(t));
            let others = returning.iter().copied().flatten().chain(target).chain([0]);
            let mut candidates: Vec<Target> = match target {
                // A branch to a function that is no thunk: nothing but that function makes it.
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
        for (index, &(address, built)) in map.calls.iter().enumerate() {
            let tally = &tallies[index];
            let known = self.known.calls.get(&address).map(|&function| {
                let never = function == built && tally.0.get(&Target::Built) >= tally.0.get(&Target::Updated(function));
                if never { Target::Built } else { Target::Updated(function) }
            });
            let chosen = known.or_else(|| tally.winner().map(|(target, ..)| target)).unwrap_or(Target::Built);
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
}
