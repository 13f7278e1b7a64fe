//! How indirect branches are made, and where the pages of ITS thunks are.

use super::tally::Tally;
use super::{Inference, Unknown};
use crate::plan::Pass;
use crate::verify::site_map::Cluster;
use crate::verify::state::Branches;
use crate::verify::visit::Kind;

impl Inference<'_, '_, '_> {
    pub(super) fn branches(&mut self) {
        let sites = self.alone(Pass::Retpolines);
        if let Some(mode) = self.known_branches() {
            self.state.branches = mode;
            self.pages(&sites);
            let votes = sites.iter().filter(|site| self.fits(site)).count() as u32;
            return self.vote(Unknown::Branches, mode as u64, votes, sites.len() as u32 - votes, true);
        }
        let modes: Vec<Branches> = Branches::ALL.into_iter().filter(|&mode| self.may_be(mode)).collect();
        let mut best = (0, modes.first().copied().unwrap_or(Branches::Retpolines));
        for mode in modes {
            self.state.branches = mode;
            self.pages(&sites);
            let count = sites.iter().filter(|site| self.fits(site)).count() as u32;
            if count > best.0 {
                best = (count, mode);
            }
            // A site that stays as built fits several modes: only a mode that every site fits ends the search.
            if count as usize == sites.len() {
                break;
            }
        }
        self.state.branches = best.1;
        self.pages(&sites);
        let against = sites.len() as u32 - best.0;
        self.vote(Unknown::Branches, best.1 as u64, best.0, against, false);
    }

    /// What known features say about branches; only where all of them are known.
    fn known_branches(&self) -> Option<Branches> {
        let numbers = self.map.info.numbers;
        let has = |number: Option<u16>| number.map_or(Some(false), |number| self.known.features.get(&number).copied());
        let (retpoline, lfence) = (has(numbers.retpoline)?, has(numbers.retpoline_lfence)?);
        numbers.retpoline?;
        let (its, counted) = (has(numbers.its)?, has(numbers.call_depth)?);
        Some(match (retpoline && !lfence, lfence, its) {
            (true, ..) if counted => Branches::Counted,
            (true, ..) => Branches::Retpolines,
            (_, true, true) => Branches::FencedIts,
            (_, true, false) => Branches::Fenced,
            (_, false, true) => Branches::Its,
            (_, false, false) => Branches::Indirect,
        })
    }

    /// Whether a mode agrees with those features that are known.
    fn may_be(&self, mode: Branches) -> bool {
        let numbers = self.map.info.numbers;
        let retpolines = matches!(mode, Branches::Retpolines | Branches::Counted);
        let features = [
            (numbers.retpoline, (!mode.fenced()).then_some(retpolines)),
            (numbers.retpoline_lfence, Some(mode.fenced())),
            (numbers.its, (!retpolines).then_some(mode.its())),
            (numbers.call_depth, retpolines.then_some(mode == Branches::Counted)),
        ];
        features.into_iter().all(|(number, says)| {
            let known = number.and_then(|number| self.known.features.get(&number).copied());
            known.zip(says).is_none_or(|(known, says)| known == says)
        })
    }

    /// The pages of ITS thunks, by what branches to them: each page where most say it is.
    pub(super) fn pages(&mut self, sites: &[&Cluster]) {
        self.state.pages.clear();
        self.votes.retain(|vote| !matches!(vote.about, Unknown::Page(_)));
        if !self.state.branches.its() {
            return;
        }
        let map = self.map;
        let places = map.its(&self.state);
        let mut tallies: Vec<Tally<u64>> = Vec::new();
        for site in sites {
            // A check before the branch is of the same cluster.
            let branch = map.visits(site).iter().find_map(|visit| match visit.kind {
                Kind::Retpoline(row) => Some((visit, row)),
                _ => None,
            });
            let Some((visit, row)) = branch else { continue };
            let len = usize::from(visit.len);
            let Some((page, offset)) = places.get(row as usize).copied().flatten() else { continue };
            let Some(found) = self.view.bytes(visit.address, len) else { continue };
            let Some(displacement) = len.checked_sub(4).map(|at| &found[at..]) else { continue };
            let base = map.code.target(visit.address, len, displacement).wrapping_sub(offset.into());
            if base % 4096 == 0 && !self.in_image(base) {
                if tallies.len() <= usize::from(page) {
                    tallies.resize_with(usize::from(page) + 1, Tally::new);
                }
                tallies[usize::from(page)].add(base);
            }
        }
        for (page, tally) in (0..).zip(&tallies) {
            let (base, votes, all) = tally.winner().unwrap_or((0, 0, 0));
            self.state.pages.push(base);
            self.vote(Unknown::Page(page), base, votes, all - votes, false);
        }
    }

    fn in_image(&self, address: u64) -> bool {
        (self.map.text.0..self.map.text.1).contains(&address)
    }
}
