//! Branches through thunks: `apply_retpolines()`, arch/x86/kernel/alternative.c (5.16 on, 750850090081; stable 5.10).

use super::code::ClusterCode;
use crate::insn::{self, CALL, CS, INT3, NOP, THUNK_SIZE};
use crate::plan::optimise::optimise;
use crate::verify::site_map::SiteMap;
use crate::verify::state::{Branches, State};
use crate::verify::visit::Branch;

const LFENCE: [u8; 3] = [0x0f, 0xae, 0xe8];
const PAGE: usize = 4096;

impl SiteMap<'_> {
    pub(super) fn branch_form(&self, row: u32, address: u64, state: &State, code: &mut ClusterCode<'_>) {
        if let Some(branch) = self.branches[row as usize]
            && !self.is_in_check(row, address, state)
            && let Some(site) = code.at(address, branch.len.into())
        {
            self.retpoline(row, address, branch, state, site);
        }
    }

    pub(super) fn retpoline(&self, row: u32, address: u64, branch: Branch, state: &State, site: &mut [u8]) {
        let mode = state.branches;
        let thunk = |base: u64| base.wrapping_add(THUNK_SIZE * u64::from(branch.register));
        match mode {
            Branches::Retpolines => return,
            Branches::Counted => {
                let base = if branch.opcode == CALL { self.landmarks.call_thunks } else { self.landmarks.jump_thunks };
                if let Some(base) = base {
                    to_thunk(address, branch, thunk(base), site);
                }
                return;
            }
            _ => {}
        }
        if mode.its()
            && let Some((page, offset)) = self.its(state).get(row as usize).copied().flatten()
        {
            if let Some(page) = state.pages.get(usize::from(page)) {
                to_thunk(address, branch, page.wrapping_add(offset.into()), site);
            }
            return;
        }
        let rules = self.rules.retpolines;
        let extended = usize::from(branch.register / 8);
        let call = !branch.conditional && branch.opcode == CALL;
        let mut bytes = [NOP; 16];
        let mut used = 0;
        if branch.conditional {
            bytes[..2].copy_from_slice(&[0x70 | (branch.opcode & 0xf ^ 1), branch.len - 2]);
            used = 2;
        }
        if mode.fenced() {
            bytes[used..used + 3].copy_from_slice(&LFENCE);
            used += 3;
        }
        let Some(spare) = site.len().checked_sub(used + 2 + extended) else { return };
        if rules.cs && call && spare <= 3 {
            bytes[used..used + spare].fill(CS);
            used += spare;
        }
        if extended == 1 {
            bytes[used] = 0x41;
            used += 1;
        }
        bytes[used] = 0xff;
        bytes[used + 1] = if call { 0xd0 } else { 0xe0 } | (branch.register & 7);
        used += 2;
        if !call && rules.cs {
            bytes[used..site.len()].fill(INT3);
        } else if !call && rules.int3 && used < site.len() {
            bytes[used] = INT3;
        }
        site.copy_from_slice(&bytes[..site.len()]);
        optimise(self.rules.alternatives.nops, self.bits, state.nops, site);
    }
}

impl SiteMap<'_> {
    /// The pages of ITS thunks as the kernel fills them (`its_init_thunk()`, arch/x86/kernel/alternative.c), each at its address
    /// less the slide; none, where checks of FineIBT's end in them.
    pub(in crate::verify) fn thunk_pages(&self, state: &State) -> Vec<(u64, Vec<u8>)> {
        if !state.branches.its() || self.is_paranoid(state) {
            return Vec::new();
        }
        let mut pages: Vec<(u64, Vec<u8>)> = state.pages.iter().map(|&base| (base, vec![INT3; PAGE])).collect();
        for (place, branch) in self.its(state).iter().zip(&self.branches) {
            let Some(((page, offset), branch)) = place.zip(*branch) else { continue };
            let jump = [0x41, 0xff, 0xe0 | branch.register & 7];
            let code = if branch.register < 8 { &jump[1..] } else { &jump };
            let page = pages.get_mut(usize::from(page));
            if let Some(thunk) = page.and_then(|(_, bytes)| bytes.get_mut(usize::from(offset)..)?.get_mut(..code.len()))
            {
                thunk.copy_from_slice(code);
            }
        }
        pages.retain(|&(base, _)| base != 0);
        pages
    }
}

/// The branch as it was, to another place.
pub(super) fn to_thunk(address: u64, branch: Branch, target: u64, site: &mut [u8]) {
    let at = site.len() - 5;
    let five = insn::jmp(address + at as u64, target);
    site[..at].fill(if branch.conditional { 0x0f } else { CS });
    site[at..].copy_from_slice(&five);
    site[at] = branch.opcode;
}
