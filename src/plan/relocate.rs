//! Code that runs elsewhere than where it was linked: a replacement at its site.
//!
//! | era | what is moved | a jump of 5 bytes that reaches with 2 |
//! |---|---|---|
//! | to 2.6.33 | nothing | – |
//! | 2.6.34 (1b1d9258181b) to 4.0 | a `call` that is the whole replacement | – |
//! | 4.1 (48c7a2509f9e) to 6.4, 5.10 stable | a `call` or `jmp` that is the whole replacement | forward: `eb` and a nop of 3; backward never, by a slip in the test |
//! | since 6.5 (270a69c4485d) | every branch and every `%rip` operand that leaves the replacement | both ways: `eb` and three `int3` |
//!
//! Sources: arch/x86/kernel/alternative.c: `recompute_jump()` (5.10, 6.1), `__apply_relocation()` (6.12).

use crate::error::{Error, Result};
use crate::image::Bits;
use crate::insn::{self, CALL, INT3, JMP, JMP_SHORT, NopTable, Step};

/// Where code comes from, and where it goes.
#[derive(Debug, Clone, Copy)]
pub struct Move {
    /// Where it was linked.
    pub from: u64,
    /// How long it is there.
    pub len: usize,
    /// Where it will run.
    pub to: u64,
}

impl Move {
    fn by(&self) -> i32 {
        self.from.wrapping_sub(self.to) as i32
    }
}

/// A replacement that is one `call rel32`; any other is left alone.
pub fn call(whole: Move, buffer: &mut [u8]) {
    if let [CALL, a, b, c, d] = buffer {
        let moved = i32::from_le_bytes([*a, *b, *c, *d]).wrapping_add(whole.by());
        [*a, *b, *c, *d] = moved.to_le_bytes();
    }
}

/// `recompute_jump()`: a replacement that is one jump of 5 bytes; any other is left alone.
pub fn jump(whole: Move, nops: &NopTable, buffer: &mut [u8]) {
    // An `eb` that begins a replacement of 5 bytes is taken for a jump of 5: so the kernel does.
    let [JMP | JMP_SHORT, a, b, c, d] = *buffer else { return };
    let target = whole.from.wrapping_add(5).wrapping_add(i32::from_le_bytes([a, b, c, d]) as u64);
    let distance = target.wrapping_sub(whole.to) as i32;
    // Backward, the kernel compares a negative number with its lowest byte: they are never equal.
    if distance >= 0 && distance - 2 <= 127 {
        buffer[0] = JMP_SHORT;
        buffer[1] = (distance - 2) as u8;
        nops.fill(&mut buffer[2..]);
    } else {
        buffer[0] = JMP;
        buffer[1..].copy_from_slice(&distance.wrapping_sub(5).to_le_bytes());
    }
}

/// `__apply_relocation()`: everything in the buffer, which may be longer than what was copied into it.
///
/// Fails where a branch of 2 bytes does not reach, as the kernel's `BUG_ON` would.
pub fn every(whole: Move, bits: Bits, buffer: &mut [u8]) -> Result<()> {
    let mut at = 0;
    while at < buffer.len() {
        // The kernel warns and leaves the rest.
        let Some(step) = insn::step(bits, &buffer[at..]) else { return Ok(()) };
        one(whole, &step, at, buffer)?;
        at += step.len;
    }
    Ok(())
}

/// One instruction of the buffer, there at this offset.
pub(super) fn one(whole: Move, step: &Step, at: usize, buffer: &mut [u8]) -> Result<()> {
    let by = whole.by();
    let next = at + step.len;
    if let Some((offset, width)) = step.branch() {
        let field = at + offset..next;
        let linked = signed(&buffer[field.clone()]);
        if leaves(whole, next, linked) {
            shift(&mut buffer[field], linked, by)?;
        }
        if width == 4 && step.opcode[0] == JMP {
            // Shortened even where the target is inside and was not moved: so the kernel does.
            let short = linked.wrapping_add(by).wrapping_add(3);
            if let Ok(short) = i8::try_from(short) {
                buffer[at] = JMP_SHORT;
                buffer[at + 1] = short as u8;
                buffer[at + 2..next].fill(INT3);
            }
        }
    }
    if let Some(offset) = step.rip_relative
        && let Some(field) = buffer.get_mut(at + offset..at + offset + 4)
    {
        let linked = signed(field);
        if leaves(whole, next, linked) {
            shift(field, linked, by)?;
        }
    }
    Ok(())
}

pub(super) fn signed(field: &[u8]) -> i32 {
    match *field {
        [a] => (a as i8).into(),
        [a, b, c, d] => i32::from_le_bytes([a, b, c, d]),
        _ => 0,
    }
}

/// `need_reloc()`: whether a target lies outside of the replacement; its end counts as inside.
fn leaves(whole: Move, next: usize, displacement: i32) -> bool {
    let offset = next as i64 + i64::from(displacement);
    offset < 0 || offset > whole.len as i64
}

fn shift(field: &mut [u8], linked: i32, by: i32) -> Result<()> {
    let moved = linked.wrapping_add(by);
    if field.len() == 4 {
        field.copy_from_slice(&moved.to_le_bytes());
        return Ok(());
    }
    match i8::try_from(moved) {
        Ok(short) => field[0] = short as u8,
        Err(_) => return Err(Error::bug(format!("BUG: a short branch would have to reach {moved:#x} (apply_reloc)"))),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::insn::X86_NOPS;

    const SITE: u64 = 0xffff_ffff_8100_0000;

    fn moved(distance: i32, how: impl Fn(Move, &mut [u8])) -> Vec<u8> {
        // jmp to SITE + distance, linked 64 KiB further on.
        let from = SITE + 0x10000;
        let mut code = insn::jmp(from, SITE.wrapping_add(distance as u64)).to_vec();
        how(Move { from, len: 5, to: SITE }, &mut code);
        code
    }

    #[test]
    fn to_6_4_jumps_are_shortened_forward_only() {
        let how = |whole, code: &mut [u8]| jump(whole, &X86_NOPS, code);
        assert_eq!(moved(2, how), b"\xeb\x00\x0f\x1f\x00");
        assert_eq!(moved(129, how), b"\xeb\x7f\x0f\x1f\x00");
        assert_eq!(moved(130, how), b"\xe9\x7d\x00\x00\x00");
        assert_eq!(moved(-2, how), b"\xe9\xf9\xff\xff\xff");
    }

    #[test]
    fn since_6_5_jumps_are_shortened_both_ways() {
        let how = |whole, code: &mut [u8]| every(whole, Bits::B64, code).expect("no BUG");
        assert_eq!(moved(129, how), b"\xeb\x7f\xcc\xcc\xcc");
        assert_eq!(moved(130, how), b"\xe9\x7d\x00\x00\x00");
        assert_eq!(moved(-126, how), b"\xeb\x80\xcc\xcc\xcc");
        assert_eq!(moved(-127, how), b"\xe9\x7c\xff\xff\xff");
    }

    #[test]
    fn a_short_branch_that_cannot_reach_is_a_bug() {
        let mut code = *b"\x74\x10";
        let whole = Move { from: SITE + 0x1000, len: 2, to: SITE };
        assert_eq!(every(whole, Bits::B64, &mut code).map_err(|e| e.kind), Err(crate::error::ErrorKind::Bug));
    }

    #[test]
    fn what_stays_inside_is_not_moved() {
        let mut code = *b"\x74\x01\x90\xe8\x00\x00\x00\x00\x48\x8b\x05\x00\x10\x00\x00";
        every(Move { from: SITE + 0x1000, len: 15, to: SITE }, Bits::B64, &mut code).expect("no BUG");
        assert_eq!(code, *b"\x74\x01\x90\xe8\x00\x00\x00\x00\x48\x8b\x05\x00\x20\x00\x00");
    }
}
