//! Returns: `apply_returns()`, arch/x86/kernel/alternative.c (6.0 on; stable 5.10).

use super::Code;
use crate::insn::{self, JMP, RET};
use crate::plan::forms::RET5;
use crate::sites::static_calls::TRAMPOLINE_ENDS;
use crate::verify::clusters::SiteMap;
use crate::verify::state::State;

impl SiteMap<'_> {
    pub(super) fn return_form(&self, address: u64, state: &State, code: &mut Code<'_>) {
        if let Some(site) = code.at(address, 5)
            && self.is_return(address, site)
        {
            site.copy_from_slice(&self.ret(address, state.return_thunk));
        }
    }

    /// Whether `apply_returns()` knows what stands here.
    fn is_return(&self, address: u64, site: &[u8]) -> bool {
        match *site {
            [JMP, a, b, c, d] => Some(self.code.target(address, 5, &[a, b, c, d])) == self.marks.return_thunk,
            [RET, ..] => self.code.from(address).get(5..8).is_some_and(|end| TRAMPOLINE_ENDS.iter().any(|e| e == end)),
            _ => false,
        }
    }

    /// What a return is.
    pub(in crate::verify) fn ret(&self, address: u64, thunk: Option<u64>) -> [u8; 5] {
        match thunk {
            Some(thunk) if Some(thunk) != self.marks.its_return_thunk || address & 0x20 == 0 => {
                insn::jmp(address, thunk)
            }
            _ => RET5,
        }
    }
}
