//! Calls of ops: `apply_paravirt()`, arch/x86/kernel/alternative.c (up to 6.7; f7af6977621a), and
//! `paravirt_patch_default()`, since 5.13 `paravirt_patch()` (054ac8ad5ebe), arch/x86/kernel/paravirt.c.

use crate::image::Bits;
use crate::insn::{self, CALL, JMP};
use crate::verify::site_map::SiteMap;
use crate::verify::state::State;
use crate::verify::visit::{Called, Visit};

impl SiteMap<'_> {
    /// The call that a row names.
    pub(in crate::verify) fn call_of(&self, row: u32, slot: u16, visit: &Visit) -> Called {
        let site = self.tables.paravirt.as_ref().and_then(|table| table.sites.get(row as usize));
        Called { slot, address: visit.address, len: visit.len, lets_go: site.and_then(|site| site.clobbers) }
    }

    /// What a call of an op becomes, where its slot holds this.
    pub(in crate::verify) fn op(&self, called: Called, state: &State, value: u64, site: &mut [u8]) {
        let ops = &self.info.ops;
        if state.calls_stay {
            return;
        }
        let Called { slot, address, lets_go, .. } = called;
        let kind = self.slots[usize::from(slot)].op.and_then(|op| ops.inlined.get(usize::from(op)));
        let code = kind.and_then(|kind| {
            let asked = state.inlines
                && kind.only_while.is_none_or(|function| function == value)
                && !kind.unless.is_some_and(|feature| state.forbids.contains(&feature));
            kind.code.as_deref().filter(|_| asked)
        });
        let kept = ops.call_clobbers.is_some_and(|call| call & !lets_go.unwrap_or(0) != 0);
        let branch = |opcode: u8, target| {
            let mut bytes = insn::call(address, target);
            bytes[0] = opcode;
            bytes
        };
        let five;
        let direct = kind.and_then(|kind| kind.direct(value, site.len())).map(|direct| direct.at(address));
        let code: &[u8] = match (code.or(direct.as_deref()), value) {
            (Some(code), _) => code,
            (None, 0) => match ops.bug {
                Some(bug) => {
                    five = branch(CALL, bug);
                    &five
                }
                None => b"\x0f\x0b",
            },
            (None, function) if Some(function) == ops.nop => &[],
            (None, function) => match (ops.identity(function), self.bits) {
                (Some(32), Bits::B64) => b"\x89\xf8",
                (Some(_), Bits::B64) => b"\x48\x89\xf8",
                (Some(_), Bits::B32) => &[],
                (None, _) if kind.is_some_and(|kind| kind.jump) => {
                    five = branch(JMP, function);
                    &five
                }
                (None, _) if kept => return,
                (None, _) => {
                    five = branch(CALL, function);
                    &five
                }
            },
        };
        if code.len() <= site.len() {
            let (head, rest) = site.split_at_mut(code.len());
            head.copy_from_slice(code);
            state.nops.fill(rest);
        }
    }
}
