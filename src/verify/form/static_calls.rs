//! Static calls and their trampolines: `__static_call_transform()`, arch/x86/kernel/static_call.c (5.10 on,
//! 1e7e47883830).

use super::code::ClusterCode;
use crate::insn;
use crate::plan::Stage;
use crate::plan::forms::RET5;
use crate::plan::forms::{UNLOCK, WARN, ZERO};
use crate::plan::rules::Zero;
use crate::verify::site_map::SiteMap;
use crate::verify::state::{State, Target};
use crate::verify::visit::Visit;

impl SiteMap<'_> {
    pub(super) fn trampoline(&self, address: u64, key: Option<u16>, state: &State, code: &mut ClusterCode<'_>) {
        let bytes = match key.map(|key| state.calls[usize::from(key)]) {
            None | Some(Target::Built) => return,
            Some(Target::Cleared) => RET5,
            Some(Target::Updated(0)) => self.ret(address, state.return_thunk),
            Some(Target::Updated(function)) => insn::jmp(address, function),
        };
        self.put_five(address, &bytes, code);
    }

    /// Five bytes, of which a `ret` may be one.
    fn put_five(&self, address: u64, bytes: &[u8; 5], code: &mut ClusterCode<'_>) {
        let short = self.rules.static_calls.short_ret && *bytes == RET5;
        code.put(address, if short { &bytes[..1] } else { bytes });
    }

    pub(super) fn call(&self, visit: &Visit, row: u32, key: u16, state: &State, code: &mut ClusterCode<'_>) {
        let built = self.calls[usize::from(key)].1;
        // Before a return thunk is chosen a return is `ret`; once there is one, all sites are done again (aee9d30b9744, 6.5), or
        // where calls are counted (e81dc127ef69, 6.2).
        let again = state.return_thunk.is_some() && (self.rules.static_calls.again || self.counts(state));
        let (function, thunk) = match (self.stage_of(visit), state.calls[usize::from(key)]) {
            (Stage::StaticCalls, _) if self.late => (built, state.return_thunk),
            (Stage::StaticCalls, _) => (built, None),
            (Stage::StaticCallsAgain, Target::Cleared) if again => (0, state.return_thunk),
            (Stage::StaticCallsAgain, _) if again => (built, state.return_thunk),
            (Stage::Updates, Target::Cleared) if !again => (0, None),
            (Stage::Updates, Target::Updated(function)) => (function, state.return_thunk),
            _ => return,
        };
        let site = &self.tables.static_calls[row as usize];
        let rules = self.rules.static_calls;
        let address = site.address;
        if let Some([0x0f, condition, ..]) = code.at(address, visit.len.into()).filter(|_| site.tail) {
            let condition = *condition;
            let target = if function != 0 { Some(function) } else { thunk.or(self.landmarks.static_call_return) };
            if let Some(target) = target {
                let mut bytes = [0x0f; 6];
                bytes[1..].copy_from_slice(&insn::jmp(address + 1, target));
                bytes[1] = condition;
                code.put(address, &bytes);
            }
            return;
        }
        let function = match site.tail {
            false if self.after_counting(visit.stage) => self.counted(state, function),
            _ => function,
        };
        let is = |mark: Option<u64>| mark == Some(function);
        let bytes = match (site.tail, function) {
            (true, 0) => self.ret(address, thunk),
            (true, _) => insn::jmp(address, function),
            (false, 0) => state.nops.atomic5,
            (false, _) if rules.zero != Zero::Call && is(self.landmarks.return0) => rules.zero.form().unwrap_or(ZERO),
            (false, _) if rules.warn && is(self.landmarks.warn_trap) => WARN,
            (false, _) if rules.unlock && is(self.landmarks.native_unlock) => UNLOCK,
            (false, _) => insn::call(address, function),
        };
        self.put_five(address, &bytes, code);
    }
}
