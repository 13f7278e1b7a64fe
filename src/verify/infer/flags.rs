//! The nop table, and what is one bit for all sites of a kind: CPUs, `endbr`, the tracer, Xen.

use super::tally::Tally;
use super::{ENOUGH, Inference, Unknown};
use crate::insn::NopTable;
use crate::plan::Pass;
use crate::verify::state::State;

impl Inference<'_, '_, '_> {
    pub(super) fn nops(&mut self) {
        if let Some(nops) = self.known.nops {
            self.state.nops = nops;
            return self.vote(Unknown::Nops, 0, 0, 0, true);
        }
        let choice = self.map.info.nops.clone();
        if choice.len() < 2 {
            return;
        }
        let mut tally = Tally::new();
        for cluster in self.alone(Pass::Mcount) {
            let Some(found) = self.view.found(cluster) else { continue };
            if let Some(at) = choice.iter().position(|nops: &&NopTable| nops.atomic5 == found) {
                tally.add(at);
            }
        }
        if let Some((at, votes, all)) = tally.winner() {
            self.state.nops = choice[at];
            self.vote(Unknown::Nops, at as u64, votes, all - votes, false);
        }
    }

    /// One bit that all sites of a kind hang on.
    pub(super) fn flag(
        &mut self,
        about: Unknown,
        known: Option<bool>,
        pass: Pass,
        of: impl Fn(&mut State) -> &mut bool,
    ) {
        let built = *of(&mut self.state);
        let mut counts = [0, 0];
        for cluster in self.alone(pass) {
            let fits = [false, true].map(|value| {
                *of(&mut self.state) = value;
                self.fits(cluster)
            });
            match fits {
                [true, false] => counts[0] += 1,
                [false, true] => counts[1] += 1,
                _ => {}
            }
        }
        let value = known.unwrap_or(match counts[1].cmp(&counts[0]) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => built,
            std::cmp::Ordering::Greater => true,
        });
        *of(&mut self.state) = value;
        self.vote(about, value.into(), counts[usize::from(value)], counts[usize::from(!value)], known.is_some());
    }

    pub(super) fn xen(&mut self) {
        let map = self.map;
        let number = map.info.numbers.xenpv;
        let known = number.filter(|number| {
            self.votes.iter().any(|vote| vote.about == Unknown::Feature(*number) && vote.votes >= ENOUGH)
        });
        let known = known.map(|number| self.state.has(number));
        self.flag(Unknown::Xen, known, Pass::Unlisted, |state| &mut state.xen);
    }
}
