//! The seed of a boot's hashes, and how calls are checked: one value for all preambles and callers.

use super::tally::Tally;
use super::{Inference, Unknown};
use crate::plan::forms::ENDBR64;
use crate::plan::{self, Bhi, CfiMode, arguments};
use crate::verify::hashes::{CALLER, PREAMBLE, caller_hash, preamble_hash};
use crate::verify::state::Cfi;
use crate::verify::visit::Kind;

impl Inference<'_, '_, '_> {
    pub(super) fn cfi(&mut self) {
        let map = self.map;
        // How callers check, where preambles do not say.
        let (mut modes, mut seeds, mut callers) = (Tally::new(), Tally::new(), Tally::new());
        // What becomes of one argument, and of more.
        let (mut one, mut more) = (Tally::new(), Tally::new());
        for visit in &map.visits {
            let len = match visit.kind {
                Kind::Preamble(_) => map.preamble as usize,
                Kind::CfiCaller(_) => CALLER,
                _ => continue,
            };
            let (Some(found), built) = (self.view.bytes(visit.address, len), map.code.from(visit.address)) else {
                continue;
            };
            let caller = matches!(visit.kind, Kind::CfiCaller(_));
            let says = if caller {
                map.caller_says(found)
            } else {
                // A sealed one has no hash, but says what becomes of arguments.
                let fine = &found[len - PREAMBLE..];
                let sealed = fine.strip_prefix(&map.rules.endbr_poison);
                let open = sealed.map(|rest| [&ENDBR64, rest].concat());
                let plain = || preamble_hash(found).map(|hash| (CfiMode::Kcfi, hash));
                // The `mov` of a far preamble stays beside FineIBT's code.
                let kept = if len == PREAMBLE { plain() } else { None };
                kept.or_else(|| match map.fine_says(visit.address, open.as_deref().unwrap_or(fine)) {
                    Some((hash, bhi)) => {
                        let tally = if arguments(map.code.from(visit.address)) == 1 { &mut one } else { &mut more };
                        bhi.into_iter().for_each(|bhi| tally.add(bhi));
                        sealed.is_none().then_some((CfiMode::FineIbt, hash))
                    }
                    None => plain(),
                })
            };
            let built = if caller { caller_hash(built) } else { preamble_hash(built) };
            if let (Some((mode, hash)), Some(built)) = (says, built) {
                if caller || !map.keeps_preamble(visit.address) {
                    modes.add(mode);
                }
                seeds.add(hash ^ built);
                if caller {
                    callers.add(mode);
                }
            }
        }
        // A sealed preamble says nothing; where checks are off preambles look like kCFI's, and where callers check too,
        // like FineIBT's.
        let Some((mode, votes, all)) = modes.winner() else { return };
        let mode = callers.winner().map_or(mode, |(mode, ..)| mode);
        let against = if matches!(mode, CfiMode::Off | CfiMode::Paranoid) { 0 } else { all - votes };
        let bhi = one.winner().or_else(|| more.winner()).map_or(Bhi::Keeps, |(bhi, ..)| bhi);
        let bhi = if mode.is_fineibt() { bhi } else { Bhi::Keeps };
        self.vote(Unknown::Cfi, plan::Cfi::number(mode, bhi) as u64, votes, against, false);
        if let Some((seed, votes, all)) = seeds.winner() {
            self.state.cfi = Cfi { mode, bhi, seed };
            self.vote(Unknown::Seed, seed.into(), votes, all - votes, false);
        }
    }
}
