//! The seed of a boot's hashes, and how calls are checked: one value for all preambles and callers.

use super::tally::Tally;
use super::{Inference, Unknown};
use crate::plan::CfiMode;
use crate::verify::hashes::{CALLER, PREAMBLE, caller_hash, preamble_hash};
use crate::verify::state::Cfi;
use crate::verify::visit::Kind;

impl Inference<'_, '_, '_> {
    pub(super) fn cfi(&mut self) {
        let map = self.map;
        let (mut modes, mut seeds, mut off) = (Tally::new(), Tally::new(), Tally::new());
        for visit in &map.visits {
            let len = match visit.kind {
                Kind::Preamble(_) => PREAMBLE,
                Kind::CfiCaller(_) => CALLER,
                _ => continue,
            };
            let (Some(found), built) = (self.view.bytes(visit.address, len), map.code.from(visit.address)) else {
                continue;
            };
            let caller = len == CALLER;
            let says = if caller { map.caller_says(found) } else { map.preamble_says(found) };
            let built = if caller { caller_hash(built) } else { preamble_hash(built) };
            if let (Some((mode, hash)), Some(built)) = (says, built) {
                modes.add(mode);
                seeds.add(hash ^ built);
                if caller {
                    off.add(mode == CfiMode::Off);
                }
            }
        }
        // A sealed preamble says nothing, and where checks are off preambles look like kCFI's.
        let Some((mode, votes, all)) = modes.winner() else { return };
        let disabled = off.winner().is_some_and(|(disabled, ..)| disabled);
        let mode = if disabled { CfiMode::Off } else { mode };
        let against = if disabled { 0 } else { all - votes };
        self.vote(Unknown::Cfi, mode as u64, votes, against, false);
        if let Some((seed, votes, all)) = seeds.winner() {
            self.state.cfi = Cfi { mode, seed };
            self.vote(Unknown::Seed, seed.into(), votes, all - votes, false);
        }
    }
}
