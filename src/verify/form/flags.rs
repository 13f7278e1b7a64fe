//! Sites that one flag decides: `lock` prefixes, `endbr`, calls of the tracer.
//!
//! `alternatives_smp_unlock()` and `apply_ibt_endbr()`, since 6.5 `apply_seal_endbr()` (be0fffa5ca89),
//! arch/x86/kernel/alternative.c; `ftrace_make_nop()`, arch/x86/kernel/ftrace.c (5.10, 6.1, 6.12).

use super::code::ClusterCode;
use crate::insn::{self, CALL};
use crate::verify::site_map::SiteMap;
use crate::verify::state::State;

const LOCK: u8 = 0xf0;
const ENDBR64: [u8; 4] = *b"\xf3\x0f\x1e\xfa";
const ENDBR32: [u8; 4] = *b"\xf3\x0f\x1e\xfb";

impl SiteMap<'_> {
    pub(super) fn endbr(&self, address: u64, state: &State, code: &mut ClusterCode<'_>) {
        if let Some(site) = code.at(address, 4)
            && state.sealed
            && (site == ENDBR64 || site == ENDBR32)
        {
            site.copy_from_slice(&self.rules.endbr_poison);
        }
    }

    pub(super) fn lock(&self, address: u64, state: &State, code: &mut ClusterCode<'_>) {
        if let Some([lock]) = code.at(address, 1)
            && state.uniprocessor
            && *lock == LOCK
            && self.landmarks.in_text(address)
        {
            *lock = self.rules.smp_locks.unlocked;
        }
    }

    pub(super) fn fentry(&self, address: u64, state: &State, code: &mut ClusterCode<'_>) {
        if let Some(site) = code.at(address, 5)
            && state.untraced
            && site[0] == CALL
        {
            match (self.hid_bpf, state.hid_bpf) {
                (Some((function, _)), Some(trampoline)) if self.head_of(function, address) => {
                    site.copy_from_slice(&insn::call(address, trampoline));
                }
                _ => site.copy_from_slice(&self.rules.nop5(self.bits, state.nops)),
            }
        }
    }

    /// Whether this is the call at the head of a function, behind its `endbr`.
    pub(in crate::verify) fn head_of(&self, function: u64, address: u64) -> bool {
        address == function || address == function.wrapping_add(4)
    }

    /// `ftrace_update_ftrace_func()`: what the tracer calls where HID-BPF has attached its program.
    pub(super) fn tracer_call(&self, address: u64, state: &State, code: &mut ClusterCode<'_>) {
        if let (Some((_, list)), Some(_)) = (self.hid_bpf, state.hid_bpf)
            && let Some(site) = code.at(address, 5)
            && site[0] == CALL
        {
            site.copy_from_slice(&insn::call(address, list));
        }
    }
}
