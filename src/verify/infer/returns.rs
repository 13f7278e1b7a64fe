//! Where returns jump.

use super::tally::Tally;
use super::{Inference, Unknown};
use crate::insn::JMP;
use crate::plan::Pass;
use crate::verify::visit::LONGEST_RETURN;

impl Inference<'_, '_, '_> {
    pub(super) fn returns(&mut self) {
        let sites = self.alone(Pass::Returns);
        let rethunk = self.map.info.numbers.rethunk.and_then(|number| self.known.features.get(&number).copied());
        let mut candidates = vec![None];
        let mut tally = Tally::new();
        // Memory far apart is read once.
        let mut held: Vec<(u64, u8, [u8; LONGEST_RETURN])> = Vec::with_capacity(sites.len());
        for site in &sites {
            let Some(found) = site.found(self.view) else { continue };
            if let Some([JMP, a, b, c, d]) = found.first_chunk() {
                tally.add(self.map.code.target(site.start, 5, &[*a, *b, *c, *d]));
            }
            if found.len() <= LONGEST_RETURN {
                let bytes = std::array::from_fn(|i| found.get(i).copied().unwrap_or(0));
                held.push((site.start, found.len() as u8, bytes));
            }
        }
        match (rethunk, self.known.return_thunk.or(self.map.landmarks.return_thunk)) {
            // Without CONFIG_RETHUNK no code asks for the feature (f43b9876e857), and no return is listed.
            _ if self.map.tables.returns.is_empty() => {}
            (Some(false), _) => {}
            (Some(true), thunk) => candidates = vec![thunk],
            (None, _) => {
                let mut targets: Vec<(u64, u32)> = tally.0.into_iter().collect();
                targets.sort_unstable_by_key(|&(target, n)| (u32::MAX - n, target));
                let legal = targets.into_iter().filter(|&(target, _)| self.map.is_function(target));
                candidates.extend(legal.take(2).map(|(target, _)| Some(target)));
            }
        }
        let mut best = (0, None);
        for candidate in candidates {
            let holds = |&&(address, len, found): &&(u64, u8, [u8; LONGEST_RETURN])| {
                let mut form = [0; LONGEST_RETURN];
                self.map.returned(address, candidate, &mut form[..len.into()]);
                form == found
            };
            let count = held.iter().filter(holds).count() as u32;
            if count > best.0 || rethunk.is_some() {
                best = (count, candidate);
            }
        }
        self.state.return_thunk = best.1;
        self.vote(Unknown::Returns, best.1.unwrap_or(0), best.0, sites.len() as u32 - best.0, rethunk.is_some());
    }
}
