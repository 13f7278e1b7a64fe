//! Sites that one flag decides: `lock` prefixes, `endbr`, calls of the tracer.
//!
//! `alternatives_smp_unlock()` and `apply_seal_endbr()`, arch/x86/kernel/alternative.c; `ftrace_make_nop()`,
//! arch/x86/kernel/ftrace.c (5.10, 6.1, 6.12).

use super::Code;
use crate::insn::CALL;
use crate::verify::clusters::SiteMap;
use crate::verify::state::State;

const LOCK: u8 = 0xf0;
const ENDBR64: [u8; 4] = *b"\xf3\x0f\x1e\xfa";
const ENDBR32: [u8; 4] = *b"\xf3\x0f\x1e\xfb";

impl SiteMap<'_> {
    pub(super) fn endbr(&self, address: u64, state: &State, code: &mut Code<'_>) {
        if let Some(site) = code.at(address, 4)
            && state.sealed
            && (site == ENDBR64 || site == ENDBR32)
        {
            site.copy_from_slice(&self.rules.endbr_poison);
        }
    }

    pub(super) fn lock(&self, address: u64, state: &State, code: &mut Code<'_>) {
        if let Some([lock]) = code.at(address, 1)
            && state.uniprocessor
            && *lock == LOCK
            && self.marks.in_text(address)
        {
            *lock = self.rules.smp_locks.unlocked;
        }
    }

    pub(super) fn fentry(&self, address: u64, state: &State, code: &mut Code<'_>) {
        if let Some(site) = code.at(address, 5)
            && state.untraced
            && site[0] == CALL
        {
            site.copy_from_slice(&state.nops.atomic5);
        }
    }
}
