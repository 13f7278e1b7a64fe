//! Calls of ops: `apply_paravirt()`, arch/x86/kernel/alternative.c (up to 6.7), and `paravirt_patch()`, arch/x86/kernel/paravirt.c.

use crate::image::Bits;
use crate::insn::{self, CALL, JMP};
use crate::verify::site_map::SiteMap;
use crate::verify::state::State;

impl SiteMap<'_> {
    /// What a call of an op becomes, where its slot holds this.
    pub(in crate::verify) fn op(&self, slot: u16, state: &State, address: u64, value: u64, site: &mut [u8]) {
        let ops = &self.info.ops;
        let kind = self.slots[usize::from(slot)].op.and_then(|op| ops.inlined.get(usize::from(op)));
        let code = kind.and_then(|kind| {
            let asked = state.inlines && kind.only_while.is_none_or(|function| function == value);
            kind.code.as_deref().filter(|_| asked)
        });
        let branch = |opcode: u8, target| {
            let mut bytes = insn::call(address, target);
            bytes[0] = opcode;
            bytes
        };
        let five;
        let code: &[u8] = match (code, value) {
            (Some(code), _) => code,
            (None, 0) => match ops.bug {
                Some(bug) => {
                    five = branch(CALL, bug);
                    &five
                }
                None => b"\x0f\x0b",
            },
            (None, function) if Some(function) == ops.nop => &[],
            (None, function) if Some(function) == ops.identity => match self.bits {
                Bits::B64 => b"\x48\x89\xf8",
                Bits::B32 => &[],
            },
            (None, function) => {
                five = branch(if kind.is_some_and(|kind| kind.jump) { JMP } else { CALL }, function);
                &five
            }
        };
        if code.len() <= site.len() {
            let (head, rest) = site.split_at_mut(code.len());
            head.copy_from_slice(code);
            state.nops.fill(rest);
        }
    }
}
