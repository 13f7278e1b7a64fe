//! Probes: where the kernel lets one be set, and where it makes a jump of it.

use std::cell::Ref;
use std::ops::Range;

use super::decoded::Decoded;
use super::{Owned, Owner, Writers, within};
use crate::insn::{self, CALL_LEN, INT3, JMP};
use crate::verify::visit::{Kind, Visit};

/// Second bytes of two-byte opcodes that do the same at another address, a bit each (`twobyte_is_boostable`).
const BOOSTABLE: [u16; 16] = [
    0x034c, 0x8000, 0x000f, 0x0002, 0xffff, 0x0000, 0xcfff, 0xc0f0, 0x0000, 0xffff, 0xbb3b, 0xf8ff, 0xff03, 0xbb2e,
    0xbb26, 0x772e,
];

impl Writers<'_, '_> {
    /// A breakpoint on the instruction, or a jump laid over this byte.
    pub(super) fn probe(&self, address: u64) -> Option<Owned> {
        let at = self.offset(address)?;
        if self.found.get(at) == Some(&INT3) && self.probeable(address).is_some() {
            return self.owned(address, 1, &[Owner::Kprobes], None);
        }
        (0..CALL_LEN as u64).find_map(|back| {
            let start = address.checked_sub(back).filter(|&start| start >= self.map.text.0)?;
            let (JMP, target) = self.branch(start)? else { return None };
            let optimised = self.outside(target) && self.optimisable(start);
            optimised.then(|| self.owned(start, CALL_LEN, &[Owner::Kprobes], Some(target)))?
        })
    }

    /// The function around an address, by `kallsyms_lookup_size_offset()`: its first address, and the one behind its last.
    fn function(&self, address: u64) -> Range<u64> {
        let functions = &self.map.functions;
        let after = functions.partition_point(|&function| function <= address);
        let start = after.checked_sub(1).map_or(self.map.text.0, |at| functions[at].max(self.map.text.0));
        start..functions.get(after).copied().unwrap_or(self.map.text.1).min(self.map.text.1)
    }

    /// The instruction that begins at an address, as it should be, if the kernel lets it be probed:
    /// `check_kprobe_address_safe()`, `can_probe()`.
    fn probeable(&self, address: u64) -> Option<insn::Step> {
        let map = self.map;
        let taken = |visit: &Visit| match visit.kind {
            Kind::Jump { .. } | Kind::Call { .. } | Kind::Trampoline { .. } => {
                within(address, visit.address, visit.len.into())
            }
            // A probe at the head of a function goes through ftrace; one within the call is refused.
            Kind::Mcount(_) => within(address, visit.address, CALL_LEN),
            // arch_adjust_kprobe_addr(): a probe of `endbr` is one of what is behind it.
            Kind::Endbr(_) => within(address, visit.address, 4),
            _ => false,
        };
        let clusters = map.touching(address, address.saturating_add(1));
        let traced = map.tracer_calls.iter().any(|&call| within(address, call, CALL_LEN));
        // Probes need kallsyms.
        if map.functions.is_empty()
            || traced
            || map.reserved.refuses(address)
            || clusters.iter().flat_map(|c| map.visits(c)).any(taken)
        {
            return None;
        }
        let code = self.expected.get(self.offset(address)?..)?;
        let step = insn::step(map.bits, code).filter(|_| self.decoded(address).begins(address))?;
        let endbr = matches!(code, [0xf3, 0x0f, 0x1e, 0xfa | 0xfb, ..]);
        // Neither another's breakpoint nor what masks exceptions: __copy_instruction().
        let masking = match step.opcode {
            [0x8e, modrm] => modrm >> 3 & 7 == 2,
            [first, _] => matches!(first, INT3 | 0x17),
        };
        (!endbr && !masking).then_some(step)
    }

    /// Whether the kernel may have put a jump here: `can_optimize()`, `copy_optimized_instructions()`.
    fn optimisable(&self, address: u64) -> bool {
        let map = self.map;
        let function = self.function(address);
        let room = function.end.saturating_sub(address) >= CALL_LEN as u64;
        if !room || map.reserved.excepted(function.start, function.end) || self.probeable(address).is_none() {
            return false;
        }
        // What is displaced: whole instructions, each of which runs elsewhere as well.
        let mut end = address;
        while end < address + CALL_LEN as u64 {
            let code = self.offset(end).and_then(|at| self.expected.get(at..));
            let Some((code, step)) = code.and_then(|code| Some((code, insn::step(map.bits, code)?))) else {
                return false;
            };
            if !boostable(&step, code, map.rules.boosts_groups) {
                return false;
            }
            end += step.len as u64;
        }
        let reserved = |visit: &Visit| {
            // Not locks: alternatives_text_reserved() keeps those in mind only where a machine that booted with one CPU may get
            // more (since 3.8, 816afe4ff98e), which no text tells.
            let kept =
                matches!(visit.kind, Kind::Mcount(_) | Kind::Jump { .. } | Kind::Call { .. } | Kind::Trampoline { .. });
            kept && visit.address < end && visit.address + u64::from(visit.len) > address
        };
        let clusters = map.touching(address, end);
        !clusters.iter().flat_map(|c| map.visits(c)).any(reserved) && !self.jumped_into(address, address + 1)
    }

    /// `insn_jump_into_range()`, `insn_is_indirect_jump()`: whether an instruction of the function jumps behind the first
    /// byte of the jump, or who knows where.
    fn jumped_into(&self, address: u64, start: u64) -> bool {
        self.decoded(address).jumps_into(start..start + CALL_LEN as u64)
    }

    /// The instructions of the function around an address: each function is decoded once for all that is looked at in it.
    fn decoded(&self, address: u64) -> Ref<'_, Decoded> {
        if !self.decoded.borrow().range.contains(&address) {
            let decoded = Decoded::of(self.map, self.expected, self.function(address));
            *self.decoded.borrow_mut() = decoded;
        }
        self.decoded.borrow()
    }
}

/// `can_boost()`: whether an instruction does the same at another address; of groups 2 to 5 it asked less before 6.9.
fn boostable(step: &insn::Step, code: &[u8], groups: bool) -> bool {
    let prefixes = &code[..step.prefixes.min(code.len())];
    let [first, second] = step.opcode;
    let extension = second >> 3 & 7;
    match first {
        0x0f => BOOSTABLE[usize::from(second >> 4)] >> (second & 15) & 1 != 0,
        // Asked of opcodes of one byte alone.
        _ if prefixes.iter().any(|b| matches!(b, 0x2e | 0x67)) => false,
        0xc0..=0xc1 | 0xd0..=0xd3 => groups && extension != 6,
        0xf6..=0xf7 => groups && extension != 1,
        0xfe => groups && extension < 2,
        0xff => extension == 4 || groups && extension < 2,
        0x62 | 0x70..=0x7f | 0x9a | 0xcc..=0xce | 0xd6 | 0xd8..=0xdf | 0xe0..=0xe3 | 0xe8..=0xe9 | 0xeb => false,
        0xf0..=0xf4 => false,
        _ => true,
    }
}
