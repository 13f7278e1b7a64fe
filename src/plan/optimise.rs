//! `optimize_nops()`: fewer and longer nops.
//!
//! | era | what counts as a nop | what a run becomes |
//! |---|---|---|
//! | 5.13 (23c1ad538f4f) to 6.4, and 5.10 stable | a run of `90` | nops of up to 8 bytes, the longest first |
//! | 6.5 (6c480f222128) to 6.9 | `90` and `0f 1f`, not `f3 90` | one nop, or a jump over `int3`; with a jump to its end that stands before it |
//! | 6.10 (da8f9cf7e721) to 6.19 | the same | one nop, or a jump over `int3` |
//! | since 7.0 | these, `mov %r,%r`, `lea 0(%r),%r`, `jmp +0` | the same |
//!
//! Sources: arch/x86/kernel/alternative.c of 6.1 and 6.12; `insn_is_nop()` of arch/x86/lib/insn-eval.c, 7.2.

use super::relocate::{self, Move, signed};
use super::rules::Nops;
use crate::error::Result;
use crate::insn::{self, Bits, JMP, JMP_SHORT, NOP, NopTable, Step};

/// `optimize_nops()` over the buffer, which holds a whole site.
pub fn optimise(how: Nops, bits: Bits, nops: &NopTable, buffer: &mut [u8]) {
    match how {
        Nops::Runs => runs(bits, nops, buffer),
        // Nothing is moved, so no branch fails to reach.
        Nops::MergeJumps => merge_jumps(None, bits, nops, buffer).unwrap_or_default(),
        Nops::Merge | Nops::MergeAll => merge(how == Nops::MergeAll, bits, nops, buffer),
    }
}

/// `apply_relocation()` of 6.5 and later: the buffer, which begins with a replacement, is moved to its site and optimised.
/// Up to 6.9 both happen instruction by instruction: the jump over many nops is not moved, and what a jump leads to is asked
/// before it is.
pub fn moved(how: Nops, bits: Bits, nops: &NopTable, whole: Move, buffer: &mut [u8]) -> Result<()> {
    if how == Nops::MergeJumps {
        return merge_jumps(Some(whole), bits, nops, buffer);
    }
    relocate::every(whole, bits, buffer)?;
    optimise(how, bits, nops, buffer);
    Ok(())
}

/// `optimize_nops()`, or `apply_relocation()` where code is moved, with `__optimize_nops()` of 6.5 to 6.9.
fn merge_jumps(whole: Option<Move>, bits: Bits, nops: &NopTable, buffer: &mut [u8]) -> Result<()> {
    let mut at = 0;
    // The last jump, and where it leads; until something else than a nop stands behind it.
    let mut jump: Option<(usize, usize)> = None;
    while at < buffer.len() {
        let Some(step) = insn::step(bits, &buffer[at..]) else { return Ok(()) };
        let start = at;
        at += step.len;
        if let [JMP | JMP_SHORT, _] = step.opcode {
            let displacement =
                step.branch().map_or(0, |(field, len)| signed(&buffer[start + field..start + field + len]));
            let target = (at as i64).wrapping_add(displacement.into());
            jump = usize::try_from(target).ok().filter(|&target| target != 0).map(|target| (start, target));
        } else if is_nop(false, bits, &buffer[start..], &step) {
            while let Some(next) = insn::step(bits, &buffer[at..]).filter(|n| is_nop(false, bits, &buffer[at..], n)) {
                at += next.len;
            }
            let from = jump.filter(|&(_, target)| target == at).map_or(start, |(jump, _)| jump);
            nops.span(&mut buffer[from..at]);
            continue;
        } else {
            jump = None;
        }
        if let Some(whole) = whole {
            relocate::one(whole, &step, start, buffer)?;
        }
    }
    Ok(())
}

fn runs(bits: Bits, nops: &NopTable, buffer: &mut [u8]) {
    // A run of one stays; so without two neighbours there is nothing to do, and nothing to decode.
    if !buffer.windows(2).any(|pair| pair == [NOP, NOP]) {
        return;
    }
    let mut at = 0;
    while at < buffer.len() {
        if buffer[at] != NOP {
            match insn::step(bits, &buffer[at..]) {
                Some(step) => at += step.len,
                None => return,
            }
            continue;
        }
        let run = buffer[at..].iter().take_while(|&&b| b == NOP).count();
        if run > 1 {
            nops.fill(&mut buffer[at..at + run]);
        }
        at += run;
    }
}

fn merge(all: bool, bits: Bits, nops: &NopTable, buffer: &mut [u8]) {
    let mut at = 0;
    while at < buffer.len() {
        let Some(step) = insn::step(bits, &buffer[at..]) else { return };
        let start = at;
        at += step.len;
        if !is_nop(all, bits, &buffer[start..], &step) {
            continue;
        }
        // A single nop at the very end is left as it is, whatever its shape.
        if at == buffer.len() {
            return;
        }
        while let Some(next) = insn::step(bits, &buffer[at..]).filter(|next| is_nop(all, bits, &buffer[at..], next)) {
            at += next.len;
        }
        nops.span(&mut buffer[start..at]);
    }
}

/// `insn_is_nop()`.
fn is_nop(all: bool, bits: Bits, code: &[u8], step: &Step) -> bool {
    let prefixes = &code[..step.prefixes];
    let rex = prefixes.last().copied().filter(|b| bits == Bits::B64 && b & 0xf0 == 0x40).unwrap_or(0);
    if !all {
        return match step.opcode {
            [NOP, _] => prefixes.first() != Some(&0xf3),
            opcode => opcode == [0x0f, 0x1f],
        };
    }
    let (r, b) = (rex >> 2 & 1, rex & 1);
    let native = match bits {
        Bits::B64 => rex & 8 != 0,
        Bits::B32 => !prefixes.contains(&0x66),
    };
    // Behind the opcode: ModR/M, SIB, displacement; all opcodes that get there have a ModR/M.
    let tail = &code[(step.prefixes + 1).min(step.len)..step.len];
    match step.opcode {
        [NOP, _] => b == 0 && !prefixes.contains(&0xf3),
        [0x89, modrm] => modrm >> 6 == 3 && native && (modrm >> 3 & 7) + 8 * r == (modrm & 7) + 8 * b,
        [0x8d, modrm] => {
            let (mode, register) = (modrm >> 6, (modrm >> 3 & 7) + 8 * r);
            let sib = (modrm & 7 == 4).then(|| tail.get(1).copied().unwrap_or(0));
            let base = sib.unwrap_or(modrm) & 7;
            let displacement = tail.get(if sib.is_some() { 2 } else { 1 }..).unwrap_or(&[]);
            let plain = sib.is_none_or(|sib| sib >> 6 == 0 && (sib >> 3 & 7) + 8 * (rex >> 1 & 1) == 4);
            matches!(mode, 1 | 2)
                && native
                && plain
                && displacement.iter().all(|&b| b == 0)
                && prefixes.iter().all(|&p| p == 0x3e)
                && register == base + 8 * b
        }
        [JMP | JMP_SHORT, _] => tail.iter().all(|&b| b == 0),
        [0x0f, 0x1f] => tail.get(1).is_some_and(|modrm| modrm >> 3 & 7 == 0) && r == 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::insn::{X86_11_NOPS, X86_NOPS};

    fn after(how: Nops, code: &[u8]) -> Vec<u8> {
        let nops = if how == Nops::Runs { &X86_NOPS } else { &X86_11_NOPS };
        let mut buffer = code.to_vec();
        optimise(how, Bits::B64, nops, &mut buffer);
        buffer
    }

    #[test]
    fn runs_of_one_byte_nops_become_the_longest_nops() {
        assert_eq!(after(Nops::Runs, b"\xfb\x90\x90\x90"), b"\xfb\x0f\x1f\x00");
        assert_eq!(after(Nops::Runs, b"\x90\xfb\x90"), b"\x90\xfb\x90");
        // The 90s are an immediate, not nops.
        assert_eq!(after(Nops::Runs, b"\xb8\x90\x90\x90\x90\x90"), b"\xb8\x90\x90\x90\x90\x90");
        assert_eq!(after(Nops::Runs, b"\x0f\x1f\x00\x90\x90"), b"\x0f\x1f\x00\x66\x90");
    }

    #[test]
    fn nops_merge_into_one_and_long_ones_into_a_jump() {
        assert_eq!(after(Nops::Merge, b"\x90\x66\x90\xfb"), b"\x0f\x1f\x00\xfb");
        assert_eq!(after(Nops::Merge, b"\xfb\x0f\x1f\x00"), b"\xfb\x0f\x1f\x00");
        assert_eq!(after(Nops::Merge, &[0x90; 11]), b"\x66\x66\x2e\x0f\x1f\x84\x00\x00\x00\x00\x00");
        assert_eq!(after(Nops::Merge, &[0x90; 12]), b"\xeb\x0a\xcc\xcc\xcc\xcc\xcc\xcc\xcc\xcc\xcc\xcc");
        assert_eq!(after(Nops::Merge, &[0x90; 130])[..6], *b"\xe9\x7d\x00\x00\x00\xcc");
        assert_eq!(after(Nops::Merge, b"\xf3\x90\x90\x90"), b"\xf3\x90\x66\x90");
    }

    #[test]
    fn from_6_5_to_6_9_a_jump_to_the_end_of_nops_is_one_of_them() {
        // entry_ibpb of 6.8: jmp over 42 nops.
        let jump = [&[0xeb, 42][..], &[0x90; 42]].concat();
        assert_eq!(after(Nops::MergeJumps, &jump), [&[0xeb, 42][..], &[0xcc; 42]].concat());
        assert_eq!(after(Nops::Merge, &jump)[..4], *b"\xeb\x2a\xeb\x28");
        // Another instruction between, or another target.
        assert_eq!(after(Nops::MergeJumps, b"\xeb\x03\xfb\x90\x90"), b"\xeb\x03\xfb\x66\x90");
        assert_eq!(after(Nops::MergeJumps, b"\xeb\x01\x90\x90"), b"\xeb\x01\x66\x90");
        assert_eq!(after(Nops::MergeJumps, b"\xeb\x02\x90\x90\xfb"), b"\x0f\x1f\x40\x00\xfb");
        // A jump that leads there only once it is moved is none.
        let whole = Move { from: 0x1000, len: 2, to: 0x2000 };
        let mut moved = *b"\xe9\x02\x10\x00\x00\x90\x90";
        super::moved(Nops::MergeJumps, Bits::B64, &X86_11_NOPS, whole, &mut moved).expect("no BUG");
        assert_eq!(moved, *b"\xeb\x05\xcc\xcc\xcc\x66\x90");
        // The jump over many nops is the kernel's own and stays.
        let whole = Move { from: 0x10_0000, len: 1, to: 0x2000 };
        let mut filled = [&[0xc3][..], &[NOP; 14]].concat();
        super::moved(Nops::MergeJumps, Bits::B64, &X86_11_NOPS, whole, &mut filled).expect("no BUG");
        assert_eq!(filled, [&[0xc3, 0xeb, 12][..], &[0xcc; 12]].concat());
    }

    #[test]
    fn since_7_0_more_counts_as_a_nop() {
        assert_eq!(after(Nops::MergeAll, b"\x48\x89\xc0\x90"), b"\x0f\x1f\x40\x00");
        assert_eq!(after(Nops::Merge, b"\x48\x89\xc0\x90"), b"\x48\x89\xc0\x90");
        assert_eq!(after(Nops::MergeAll, b"\x48\x89\xc8\x90"), b"\x48\x89\xc8\x90");
        assert_eq!(after(Nops::MergeAll, b"\xeb\x00\x90\xfb"), b"\x0f\x1f\x00\xfb");
    }
}
