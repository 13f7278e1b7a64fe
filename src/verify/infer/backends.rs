//! Whose backend fits: what op slots hold, and where the clocks' static calls go.
//!
//! Of several backends that explain as many sites, the one that may put the least into slots is taken: whatever Xen HVM puts
//! there, Xen PV may put there too, but not the other way round. Those that are equal in this too are reported together.

use super::flags::HVM;
use super::tally::Tally;
use super::{ENOUGH, Inference, Unknown};
use crate::verify::info::PossibleBackend;
use crate::verify::state::Target;
use crate::verify::visit::OpSlot;

impl Inference<'_, '_, '_> {
    /// Decides which backends fit; gives the place of the first.
    pub(super) fn backends(&mut self) -> Option<usize> {
        let map = self.map;
        let backends = &map.info.backends;
        let given = self.known.backend.as_ref();
        let may = |backend: &PossibleBackend| match given {
            Some(name) => backend.name == *name,
            // No guest but Xen's has its hypercall page filled so.
            None if self.state.hvm_call.is_some() => backend.name == HVM,
            None => backend.requires.is_none_or(|feature| self.may_have(feature)),
        };
        let mut places: Vec<usize> = (0..backends.len()).filter(|&at| may(&backends[at])).collect();
        if places.is_empty() {
            places = (0..backends.len()).collect();
        }
        // Static calls that no backend sets tell nothing of one: nearly all.
        let set = |key: &u64| backends.iter().any(|backend| backend.calls.contains_key(key));
        let calls: Vec<usize> = (0..map.calls.len()).filter(|&at| set(&map.calls[at].0)).collect();
        let rank = |at: usize| (self.explains(&backends[at], &calls), usize::MAX - allows(&backends[at]));
        let ranks: Vec<_> = places.iter().map(|&at| rank(at)).collect();
        let best = ranks.iter().max()?;
        let best: Vec<usize> = places.iter().zip(&ranks).filter(|&(_, rank)| rank == best).map(|(&at, _)| at).collect();
        self.backends = best.iter().map(|&at| backends[at].name.clone()).collect();
        best.first().copied()
    }

    /// Whether a feature may be there: it is neither given nor inferred as absent.
    fn may_have(&self, feature: u16) -> bool {
        let known = self.known.features.get(&feature).copied();
        let voted = self.votes.iter().find(|vote| vote.about == Unknown::Feature(feature) && vote.votes >= ENOUGH);
        known.or(voted.map(|vote| vote.value != 0)).unwrap_or(true)
    }

    /// How many sites hold what a backend may make them; of static calls those at these places.
    fn explains(&self, backend: &PossibleBackend, calls: &[usize]) -> u32 {
        let slot = |(slot, tally): (&OpSlot, &Tally<u64>)| {
            let votes = |value: &u64| tally.0.get(value).copied().unwrap_or(0);
            let listed = backend.slots.get(&slot.address);
            listed.map_or(votes(&slot.built), |values| values.iter().map(votes).max().unwrap_or(0))
        };
        let slots: u32 = self.map.slots.iter().zip(&self.slot_tallies).map(slot).sum();
        let call = |&at: &usize| {
            let ((key, built), Some(tally)) = (self.map.calls[at], self.call_tallies.get(at)) else { return 0 };
            let votes = |target: Target| tally.0.get(&target).copied().unwrap_or(0);
            let functions = backend.calls.get(&key).into_iter().flatten().copied().chain([built]);
            functions.map(|function| votes(Target::Updated(function))).chain([votes(Target::Built)]).max().unwrap_or(0)
        };
        slots + calls.iter().map(call).sum::<u32>()
    }
}

/// How many functions a backend may put into slots and static calls, all told.
fn allows(backend: &PossibleBackend) -> usize {
    backend.slots.values().chain(backend.calls.values()).map(Vec::len).sum()
}
