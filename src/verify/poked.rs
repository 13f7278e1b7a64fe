//! Text that was being written when memory was taken, as it will be.
//!
//! Where the kernel's own list has an instruction that is to be written ([`crate::memory::pokes`]), memory may have what
//! was there before, an `int3` instead of its first byte, or that with all behind it written already. What the kernel is
//! about to write is judged like all other text. Whoever can write to the kernel can make up a list, so it is taken at its
//! word only where the kernel writes with the help of one, an instruction at a time, and what it replaces has to be what
//! such a place may hold:
//!
//! | place | written by | may hold |
//! |---|---|---|
//! | rows of `__jump_table` | `arch_jump_label_transform()` | a nop, the jump to the row's target |
//! | rows of `__mcount_loc`, heads of BPF's dispatchers | `ftrace_replace_code()`, `bpf_arch_text_poke()` | a nop, a branch to the tracer's code or to code that was made for who is registered |
//! | static calls and their trampolines, calls of the tracer's code | `arch_static_call_transform()`, `ftrace_update_ftrace_func()` | a nop, a return, a branch to a function or to such code |
//! | elsewhere | `arch_optimize_kprobes()` | the jump outside the kernel that is to be written, but for an `int3` |
//!
//! All of these may hold what they were built with. Behind an `int3` a call may have gone anywhere: nobody runs it.

use super::Verifier;
use super::loaded::Text;
use super::site_map::SiteMap;
use super::visit::Kind;
use crate::insn::{CALL, CALL_LEN, INT3, JMP, JMP_SHORT, NOP_TABLES, NopTable, RET, step};
use crate::memory::{Poke, is_read};

/// `endbr64`.
const ENDBR: u64 = 4;

impl Verifier<'_> {
    /// Puts in what is to be written; the addresses at which that was not there yet. `made` is where code was made for
    /// tracers and BPF programs, as if the kernel had not slid.
    pub fn finish(&self, text: &mut Text<'_>, pokes: &[Poke], made: &[u64]) -> Vec<u64> {
        let mut finished = Vec::new();
        for poke in pokes {
            let Some(at) = poke.address.checked_sub(self.map.text.0).and_then(|at| usize::try_from(at).ok()) else {
                continue;
            };
            let range = at..at.saturating_add(poke.bytes.len());
            let end = poke.address.saturating_add(poke.bytes.len() as u64);
            if !is_read(&text.unread, poke.address, end) {
                continue;
            }
            let Some(held) = text.bytes.get(range.clone()).filter(|&held| held != poke.bytes) else { continue };
            if self.map.is_unfinished(poke, held, made) {
                text.bytes.to_mut()[range].copy_from_slice(&poke.bytes);
                finished.push(poke.address);
            }
        }
        finished
    }
}

/// Where the kernel writes an instruction that CPUs may run meanwhile.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// A jump label, and where it jumps to.
    Jump(u64),
    /// The head of a function that may be traced, or a dispatcher's.
    Head,
    /// A call that goes to one function or another.
    Call,
    /// Any other instruction.
    Other,
}

impl SiteMap<'_> {
    /// Whether a place may hold this while that is to be written.
    fn is_unfinished(&self, poke: &Poke, held: &[u8], made: &[u64]) -> bool {
        let Some(place) = self.poked_place(poke) else { return false };
        let mut before = held.to_vec();
        if let [first @ INT3, tail @ ..] = &mut before[..] {
            *first = poke.old;
            if tail == &poke.bytes[1..] {
                return true;
            }
        }
        let built = self.code.from(poke.address).starts_with(&before);
        let stopped = held[0] == INT3 && before[0] == CALL && before.len() == CALL_LEN;
        let called = stopped && matches!(place, Place::Head | Place::Call);
        built
            || place != Place::Other && (called || is_nop(&before) || self.may_hold(place, poke.address, &before, made))
    }

    /// What is written there; `None` where the kernel writes no such instruction with the help of a list.
    fn poked_place(&self, poke: &Poke) -> Option<Place> {
        let Poke { address, bytes, .. } = poke;
        let visits = self.touching(*address, address.saturating_add(1)).iter().flat_map(|cluster| self.visits(cluster));
        let place = visits.filter(|visit| visit.address == *address && usize::from(visit.len) == bytes.len());
        let place = place.filter_map(|visit| match visit.kind {
            Kind::Jump { row, .. } => Some(Place::Jump(self.tables.jump_labels.get(row as usize)?.target)),
            Kind::Mcount(_) => Some(Place::Head),
            Kind::Call { .. } | Kind::Trampoline { .. } | Kind::TracerCall(_) => Some(Place::Call),
            _ => None,
        });
        if let Some(place) = place.last() {
            return Some(place);
        }
        let [opcode, a, b, c, d] = bytes[..] else { return None };
        let target = self.code.target(*address, CALL_LEN, &[a, b, c, d]);
        let dispatcher = |&(start, _): &(u64, u64)| *address == start || *address == start.saturating_add(ENDBR);
        if self.tracer_calls.contains(address) {
            Some(Place::Call)
        } else if self.bpf.iter().any(dispatcher) {
            Some(Place::Head)
        } else {
            (opcode == JMP && target >= self.end).then_some(Place::Other)
        }
    }

    /// Whether a place may hold a branch or a return.
    fn may_hold(&self, place: Place, address: u64, code: &[u8], made: &[u64]) -> bool {
        let Some(step) = step(self.bits, code).filter(|step| step.prefixes == 0) else { return false };
        let padded = code[step.len..].iter().all(|&byte| byte == INT3);
        let Some(field) = step.branch().and_then(|(at, len)| code.get(at..at + len)) else {
            // A tail call of nothing is padded with int3.
            return place == Place::Call && code[0] == RET && padded;
        };
        let goes = self.code.target(address, step.len, field);
        let opcode = code[0];
        padded
            && match place {
                Place::Jump(target) => matches!(opcode, JMP | JMP_SHORT) && goes == target,
                Place::Head => matches!(opcode, CALL | JMP) && (self.tracers.contains(&goes) || made.contains(&goes)),
                Place::Call => matches!(opcode, CALL | JMP | 0x0f) && (self.is_function(goes) || made.contains(&goes)),
                Place::Other => false,
            }
    }
}

/// A nop of any kernel that has this length, alone or for what is written while CPUs run it.
fn is_nop(code: &[u8]) -> bool {
    let is = |table: &&NopTable| {
        let mut nops = vec![0; code.len()];
        table.fill(&mut nops);
        table.atomic5 == code || nops == code
    };
    NOP_TABLES.iter().any(is)
}
