//! Rows of `.altinstructions`: `apply_alternatives()`, arch/x86/kernel/alternative.c (5.10, 6.1, 6.12, 7.2).

use super::code::ClusterCode;
use crate::insn::{self, NOP};
use crate::plan::optimise::{self, optimise};
use crate::plan::relocate::{self, Move};
use crate::plan::rules::{Fill, Relocate, SameSite, Untaken};
use crate::sites::Alternative;
use crate::verify::site_map::SiteMap;
use crate::verify::state::State;

/// Replacements that are replaced themselves, and how deep that goes.
const DEEPEST: u8 = 3;

impl SiteMap<'_> {
    pub(super) fn alternatives(
        &self,
        first: usize,
        count: usize,
        state: &State,
        depth: u8,
        code: &mut ClusterCode<'_>,
    ) {
        let Some(table) = &self.tables.alternatives else { return };
        let rows = &table.rows[first..first + count];
        let rules = self.rules.alternatives;
        let len = rows.iter().map(|row| row.len).max().unwrap_or(0);
        let taken = |row: &Alternative| state.has(row.feature) != row.inverted;
        if rules.same_site == SameSite::Once {
            let at = rows.iter().rposition(taken).unwrap_or(count - 1);
            return self.alternative(first + at, &rows[at], len.into(), taken(&rows[at]), state, depth, code);
        }
        for (at, row) in rows.iter().enumerate() {
            self.alternative(first + at, row, len.into(), taken(row), state, depth, code);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one row, where it is, and what it is asked under")]
    fn alternative(
        &self,
        index: usize,
        row: &Alternative,
        len: usize,
        taken: bool,
        state: &State,
        depth: u8,
        code: &mut ClusterCode<'_>,
    ) {
        let rules = self.rules.alternatives;
        let Some(site) = code.at(row.address, len) else { return };
        if !taken {
            let pad = usize::from(row.pad);
            match rules.untaken {
                Untaken::Leave => {}
                Untaken::Optimise => optimise(rules.nops, self.bits, state.nops, site),
                Untaken::PadUnseen if pad > 1 => state.nops.fill(&mut site[len - pad..]),
                Untaken::Pad if pad > 1 && site.iter().take(pad).all(|&b| b == NOP) => {
                    state.nops.fill(&mut site[len - pad..]);
                }
                Untaken::Pad | Untaken::PadUnseen => {}
            }
            return;
        }
        let need = usize::from(row.replacement_len);
        if need > len {
            return;
        }
        let mut used = need;
        let mut held = [0; u8::MAX as usize];
        let Some(built) = held.get_mut(..len) else { return };
        built.copy_from_slice(site);
        self.replacement(index, row, state, depth, &mut site[..need]);
        if row.direct_call {
            let slot = self.row_slots.get(index).copied().flatten();
            let (Some(slot), Some(bug), [0xff, 0x15, ..]) = (slot, self.landmarks.bug, &*built) else {
                site.copy_from_slice(built);
                return;
            };
            let function = state.slots[usize::from(slot)];
            if self.landmarks.nop == Some(function) {
                used = 0;
            } else {
                let target = if function == 0 { bug } else { function };
                // As linked where the replacement is: it is moved with the rest below.
                site[..5].copy_from_slice(&insn::call(row.replacement, target));
                used = 5;
            }
        }
        let whole = Move { from: row.replacement, len: need, to: row.address };
        match rules.relocate {
            Relocate::Nothing | Relocate::Every => {}
            Relocate::Call => relocate::call(whole, &mut site[..need]),
            Relocate::First => {
                relocate::call(whole, &mut site[..need]);
                relocate::jump(whole, state.nops, &mut site[..need]);
            }
        }
        match rules.fill {
            Fill::Nops => state.nops.fill(&mut site[used..]),
            Fill::Ones => site[used..].fill(NOP),
        }
        match (rules.relocate, rules.fill) {
            (Relocate::Every, _) => {
                if optimise::moved(rules.nops, self.bits, state.nops, whole, site).is_err() {
                    site.copy_from_slice(built);
                }
            }
            (_, Fill::Ones) => optimise(rules.nops, self.bits, state.nops, site),
            (_, Fill::Nops) => {}
        }
    }

    /// A replacement, as the passes and rows before this one left it.
    fn replacement(&self, index: usize, row: &Alternative, state: &State, depth: u8, out: &mut [u8]) {
        let built = self.code.from(row.replacement);
        if built.len() < out.len() {
            return;
        }
        out.copy_from_slice(&built[..out.len()]);
        if !self.nested.get(index).copied().unwrap_or(true) {
            return;
        }
        let end = row.replacement.saturating_add(out.len() as u64);
        let mut form = Vec::new();
        for cluster in self.touching(row.replacement, end) {
            if depth >= DEEPEST {
                return;
            }
            let until = (self.alternatives_stage(), index as u32);
            self.follow(cluster, state, until, depth + 1, &mut form, &mut |_, _| {});
            for (address, byte) in (cluster.start..).zip(&form) {
                if let Some(place) = address.checked_sub(row.replacement).and_then(|at| out.get_mut(at as usize)) {
                    *place = *byte;
                }
            }
        }
    }
}
