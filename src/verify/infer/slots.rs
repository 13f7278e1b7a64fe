//! Op slots: one function for all calls of an op; which ops are inlined by type.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::tally::Tally;
use super::{ENOUGH, Inference, Unknown};
use crate::insn::{self, CALL, JMP};
use crate::plan::Pass;
use crate::verify::info::Inlined;
use crate::verify::state::{SOME_FUNCTION, State};
use crate::verify::visit::{Called, Kind};

impl Inference<'_, '_, '_> {
    /// Each op site that is nothing else: its slot and its bytes.
    fn op_sites(&self) -> Vec<Called> {
        let map = self.map;
        let mut sites = Vec::new();
        for visit in map.group(Pass::Paravirt).flat_map(|cluster| map.visits(cluster)) {
            if let Kind::Paravirt { row, slot } = visit.kind {
                sites.push(map.call_of(row, slot, visit));
            }
        }
        for visit in map.group(Pass::Alternatives).flat_map(|cluster| map.visits(cluster)) {
            if let Kind::Alternatives { first, .. } = visit.kind
                && let Some(&Some(slot)) = map.row_slots.get(first as usize)
            {
                sites.push(Called { slot, address: visit.address, len: visit.len, lets_go: None });
            }
        }
        sites
    }

    /// Whether calls stay: where the kernel has such an option, and most of them do.
    pub(super) fn calls_stay(&mut self) {
        if !self.map.info.ops.may_stay {
            return;
        }
        // A site that does not let go of enough keeps a call of a guest's function anyhow.
        let clobbers = self.map.info.ops.call_clobbers.unwrap_or(0);
        let mut counts = [0, 0];
        for Called { address, len, lets_go, .. } in self.op_sites() {
            if clobbers & !lets_go.unwrap_or(0) != 0 {
                continue;
            }
            if let Some(found) = self.view.bytes(address, len.into()) {
                counts[usize::from(self.map.code.from(address).starts_with(found))] += 1;
            }
        }
        let stay = counts[1] > counts[0];
        self.state.calls_stay = stay;
        self.vote(Unknown::CallsStay, stay.into(), counts[usize::from(stay)], counts[usize::from(!stay)], false);
    }

    pub(super) fn inlines(&mut self) {
        if !self.map.info.ops.inlined.iter().any(|kind| kind.code.is_some() && kind.only_while.is_none()) {
            self.state.inlines = self.map.info.ops.inlined.iter().any(|kind| kind.code.is_some());
            return;
        }
        let unconditional = |slot: u16| {
            let op = self.map.slots[usize::from(slot)].op.map_or(0, usize::from);
            self.map
                .info
                .ops
                .inlined
                .get(op)
                .filter(|kind| kind.only_while.is_none() && kind.unless.is_none())
                .and_then(|kind| kind.code.clone())
        };
        let mut counts = [0, 0];
        for Called { slot, address, len, .. } in self.op_sites() {
            if let (Some(code), Some(found)) = (unconditional(slot), self.view.bytes(address, len.into())) {
                counts[usize::from(found.starts_with(&code))] += 1;
            }
        }
        let inlines = counts[1] > counts[0];
        self.state.inlines = inlines;
        self.vote(Unknown::Inlines, inlines.into(), counts[usize::from(inlines)], counts[usize::from(!inlines)], false);
    }

    /// Whether the CPU has the feature with which an op is not inlined.
    fn forbids(&self, kind: &Inlined) -> bool {
        kind.unless.is_some_and(|feature| self.state.forbids.contains(&feature))
    }

    /// The features that forbid to inline an op: as given, or by what its sites hold.
    pub(super) fn forbidden(&mut self) {
        let ops = &self.map.info.ops.inlined;
        if !ops.iter().any(|kind| kind.unless.is_some()) {
            return;
        }
        let mut counts: HashMap<u16, [u32; 2]> = HashMap::new();
        for Called { slot, address, len, .. } in self.op_sites() {
            let kind = self.map.slots[usize::from(slot)].op.and_then(|op| ops.get(usize::from(op)));
            let Some((feature, code)) = kind.and_then(|kind| Some((kind.unless?, kind.code.as_deref()?))) else {
                continue;
            };
            if let Some(found) = self.view.bytes(address, len.into()) {
                counts.entry(feature).or_default()[usize::from(!found.starts_with(code))] += 1;
            }
        }
        let has = |(&feature, &[inlined, called]): (&u16, &[u32; 2])| {
            self.known.features.get(&feature).copied().unwrap_or(called > inlined).then_some(feature)
        };
        self.state.forbids = counts.iter().filter_map(has).collect();
    }

    /// What a call of an op becomes where its slot holds this function, behind what is there now.
    fn op_form(&self, called: Called, function: u64, found: &[u8], form: &mut Vec<u8>) {
        let map = self.map;
        let Called { slot, address, .. } = called;
        let nothing = map.info.ops.nop.or(map.landmarks.nop);
        form.clear();
        form.extend_from_slice(found);
        if map.slots[usize::from(slot)].op.is_some() {
            map.op(called, &self.state, function, form);
            if map.counts_op(address) {
                map.count_at(address, 0, &self.state, form);
            }
        } else if Some(function) == nothing {
            state_nops(&self.state, form);
        } else {
            form.fill(insn::NOP);
            let target = if function == 0 { map.info.ops.bug.or(map.landmarks.bug).unwrap_or(0) } else { function };
            let target = if map.counts_op(address) { map.counted(&self.state, target) } else { target };
            if let Some(start) = form.get_mut(..5) {
                start.copy_from_slice(&insn::call(address, target));
                state_nops(&self.state, &mut form[5..]);
            }
        }
    }

    pub(super) fn slots(&mut self) {
        let map = self.map;
        let mut tallies: Vec<Tally<u64>> = Vec::new();
        tallies.resize_with(map.slots.len(), Tally::new);
        // Calls that were left indirect, as clobbers ask: of a function that does something, and is not inlined.
        let mut left = vec![0; map.slots.len()];
        // Those that hold no legal form.
        let mut changed: Vec<Vec<(Called, &[u8])>> = vec![Vec::new(); map.slots.len()];
        let nothing = map.info.ops.nop.or(map.landmarks.nop);
        let bug = map.info.ops.bug.or(map.landmarks.bug);
        let mut form = Vec::new();
        for called in self.op_sites() {
            let Called { slot, address, len, .. } = called;
            let Some(found) = self.view.bytes(address, len.into()) else { continue };
            let target = match found {
                [CALL | JMP, a, b, c, d, ..] => Some(map.code.target(address, 5, &[*a, *b, *c, *d])),
                _ => None,
            };
            let target = target.map(|target| map.meant(&self.state, target));
            let at = usize::from(slot);
            let kind = map.slots[at].op.and_then(|op| map.info.ops.inlined.get(usize::from(op)));
            let guarded = kind.filter(|kind| kind.code.is_some()).and_then(|kind| kind.only_while);
            let target = if target.is_some() && target == bug { Some(0) } else { target };
            let candidates = [guarded, target.filter(|&t| t == 0 || map.is_function(t)), nothing];
            let identities = map.info.ops.identities.iter().map(|&(function, _)| function);
            let direct = kind.into_iter().flat_map(|kind| &kind.direct).map(|direct| direct.function);
            // By type, whatever the slot holds: no vote.
            let by_type = |kind: &Inlined| kind.code.is_some() && kind.only_while.is_none();
            if self.state.inlines && kind.is_some_and(|kind| by_type(kind) && !self.forbids(kind)) {
                continue;
            }
            if target.is_none() && map.slots[at].op.is_some() && map.code.from(address).starts_with(found) {
                form.clear();
                form.extend_from_slice(found);
                map.op(called, &self.state, SOME_FUNCTION, &mut form);
                if form == found {
                    left[at] += 1;
                    continue;
                }
            }
            let mut fits = false;
            for candidate in candidates.into_iter().flatten().chain(identities).chain(direct).chain([0]) {
                self.op_form(called, candidate, found, &mut form);
                fits = form == found;
                if fits {
                    tallies[at].add(candidate);
                    break;
                }
            }
            if !fits {
                changed[at].push((called, found));
            }
        }
        self.slot_tallies = tallies;
        let backend = self.backends();
        let none = HashMap::new();
        let fills = backend.map_or(&none, |at| &map.info.backends[at].slots);
        let tallies = std::mem::take(&mut self.slot_tallies);
        for (at, tally) in tallies.iter().enumerate() {
            let slot = map.slots[at];
            let known = self.known.slots.get(&slot.address).copied();
            let (mut value, _, all) = tally.winner().unwrap_or((slot.built, 0, 0));
            let allowed = |value: u64| match fills.get(&slot.address) {
                Some(values) => values.contains(&value),
                None => value == slot.built,
            };
            let votes = |value: u64| tally.0.get(&value).copied().unwrap_or(0);
            let none_says = all == 0 && !changed[at].is_empty();
            if backend.is_some() && (none_says || votes(value) < ENOUGH && !allowed(value)) {
                // Too few to be believed against what backends do; where none says anything, the nearer form decides.
                let likely = fills.get(&slot.address).cloned().unwrap_or_else(|| vec![slot.built]);
                let mut distance = |&v: &u64| {
                    let far = |&(called, found): &(Called, &[u8])| {
                        self.op_form(called, v, found, &mut form);
                        form.iter().zip(found).filter(|(a, b)| a != b).count()
                    };
                    changed[at].iter().map(far).sum::<usize>()
                };
                value = likely.into_iter().min_by_key(|v| (Reverse(votes(*v)), distance(v))).unwrap_or(slot.built);
            }
            let mut by_left = 0;
            if let (1.., 0, Some(values)) = (left[at], all, fills.get(&slot.address)) {
                let kind = slot.op.and_then(|op| map.info.ops.inlined.get(usize::from(op)));
                let guarded = kind.and_then(|kind| kind.only_while);
                let called = |&&v: &&u64| {
                    v != 0 && Some(v) != guarded && Some(v) != nothing && map.info.ops.identity(v).is_none()
                };
                // The calls say no more than that it is another than what was built; of several nothing tells which.
                let mut others = values.iter().copied().filter(|v| called(&v) && *v != slot.built);
                let other = match (others.next(), others.next()) {
                    (Some(other), None) => Some(other),
                    (Some(_), Some(_)) => Some(SOME_FUNCTION),
                    (None, _) => values.iter().copied().find(|v| called(&v)),
                };
                if let Some(other) = other {
                    (value, by_left) = (other, left[at]);
                }
            }
            value = known.unwrap_or(value);
            self.state.slots[at] = value;
            let for_it = votes(value).max(by_left);
            self.vote(Unknown::Slot(slot.address), value, for_it, all - votes(value), known.is_some());
        }
        self.slot_tallies = tallies;
    }
}

fn state_nops(state: &State, site: &mut [u8]) {
    state.nops.fill(site);
}
