//! Returns: `apply_returns()`, arch/x86/kernel/alternative.c (5.19 on, 15e67227c49a; stable 5.10).

use super::code::ClusterCode;
use crate::insn::{self, INT3, JMP, RET};
use crate::plan::forms::RET5;
use crate::sites::static_calls::TRAMPOLINE_ENDS;
use crate::verify::site_map::SiteMap;
use crate::verify::state::State;

impl SiteMap<'_> {
    pub(super) fn return_form(&self, address: u64, len: u8, state: &State, code: &mut ClusterCode<'_>) {
        if let Some(site) = code.at(address, len.into())
            && self.is_return(address, site)
        {
            self.returned(address, state.return_thunk, site);
        }
    }

    /// Whether `apply_returns()` knows what stands here.
    fn is_return(&self, address: u64, site: &[u8]) -> bool {
        if let [RET, ..] = *site {
            return self.code.from(address).get(5..8).is_some_and(|end| TRAMPOLINE_ENDS.iter().any(|e| e == end));
        }
        // As gcc has them; clang's have a prefix.
        let jumps = matches!(*site, [JMP, _, _, _, _])
            || insn::step(self.bits, site).is_some_and(|step| step.opcode[0] == JMP && step.len == site.len());
        jumps
            && site.last_chunk().is_some_and(|field: &[u8; 4]| {
                Some(self.code.target(address, site.len(), field)) == self.landmarks.return_thunk
            })
    }

    /// `patch_return()`: a jump or `ret`, and `int3` behind it.
    pub(in crate::verify) fn returned(&self, address: u64, thunk: Option<u64>, site: &mut [u8]) {
        if let Some((head, rest)) = site.split_at_mut_checked(5) {
            head.copy_from_slice(&self.ret(address, thunk));
            rest.fill(INT3);
        }
    }

    /// What a return becomes.
    pub(in crate::verify) fn ret(&self, address: u64, thunk: Option<u64>) -> [u8; 5] {
        match thunk {
            Some(thunk) if Some(thunk) != self.landmarks.its_return_thunk || address & 0x20 == 0 => {
                insn::jmp(address, thunk)
            }
            _ => RET5,
        }
    }
}
