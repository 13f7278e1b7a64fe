//! One instruction of code that is being patched: as much of it as the kernel's passes look at.

use iced_x86::Instruction;

use super::bits::Bits;
use super::decode::decoder;

/// Longest x86 instruction.
const MAX_INSN: usize = 15;

/// What the passes ask about an instruction (`struct insn` of arch/x86/include/asm/insn.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Its length in bytes.
    pub len: usize,
    /// Its first opcode byte, behind all prefixes, and the byte after that.
    pub opcode: [u8; 2],
    /// How many bytes of prefixes there are, REX among them.
    pub prefixes: usize,
    /// Where a displacement relative to `%rip` lies, in bytes from its start.
    pub rip_relative: Option<usize>,
}

impl Step {
    /// Where the displacement of a direct call or jump lies, and its length: always its last bytes.
    pub fn branch(&self) -> Option<(usize, usize)> {
        let len = match self.opcode {
            [0x70..=0x7f | 0xeb, _] => 1,
            [0xe8 | 0xe9, _] | [0x0f, 0x80..=0x8f] => 4,
            _ => return None,
        };
        self.len.checked_sub(len).map(|at| (at, len))
    }
}

/// The first instruction of the code; `None` where the bytes are none, or end within it.
pub fn step(bits: Bits, code: &[u8]) -> Option<Step> {
    let code = &code[..code.len().min(MAX_INSN)];
    let prefixes = prefixes(bits, code);
    let opcode = [*code.get(prefixes)?, code.get(prefixes + 1).copied().unwrap_or(0)];
    // The instructions met most, by far, without a decoder.
    let len = match (prefixes, opcode[0]) {
        (0, 0x90 | 0xc3 | 0xcc | 0xfa | 0xfb | 0x9c | 0x50..=0x5f) => Some(1),
        (0, 0xe8 | 0xe9) => Some(5),
        (0, 0xeb) => Some(2),
        _ => None,
    };
    if let Some(len) = len {
        return (len <= code.len()).then_some(Step { len, opcode, prefixes, rip_relative: None });
    }
    let mut insn = Instruction::default();
    let mut decoder = decoder(bits, 0, code);
    decoder.decode_out(&mut insn);
    if insn.is_invalid() {
        return None;
    }
    let rip_relative =
        insn.is_ip_rel_memory_operand().then(|| decoder.get_constant_offsets(&insn).displacement_offset());
    Some(Step { len: insn.len(), opcode, prefixes, rip_relative })
}

fn prefixes(bits: Bits, code: &[u8]) -> usize {
    let legacy = |b: &u8| matches!(b, 0x66 | 0x67 | 0x2e | 0x36 | 0x3e | 0x26 | 0x64 | 0x65 | 0xf0 | 0xf2 | 0xf3);
    let count = code.iter().take_while(|b| legacy(b)).count();
    let rex = bits == Bits::B64 && code.get(count).is_some_and(|b| b & 0xf0 == 0x40);
    count + usize::from(rex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opcode_and_branch_are_found_behind_prefixes() {
        let at = |code: &[u8]| step(Bits::B64, code).map(|s| (s.len, s.opcode[0], s.prefixes, s.branch()));
        assert_eq!(at(b"\xe8\x00\x00\x00\x00"), Some((5, 0xe8, 0, Some((1, 4)))));
        assert_eq!(at(b"\x2e\xe8\x00\x00\x00\x00"), Some((6, 0xe8, 1, Some((2, 4)))));
        assert_eq!(at(b"\x0f\x84\x00\x00\x00\x00"), Some((6, 0x0f, 0, Some((2, 4)))));
        assert_eq!(at(b"\x74\xfe\x90"), Some((2, 0x74, 0, Some((1, 1)))));
        assert_eq!(at(b"\xf3\x48\xab"), Some((3, 0xab, 2, None)));
        assert_eq!(at(b"\xe8\x00"), None);
        assert_eq!(at(b""), None);
    }

    #[test]
    fn rip_relative_operands_are_found() {
        let at = |bits, code: &[u8]| step(bits, code).and_then(|s| s.rip_relative);
        assert_eq!(at(Bits::B64, b"\x65\x48\xc1\x3d\x00\x00\x00\x00\x05"), Some(4));
        assert_eq!(at(Bits::B64, b"\xff\x15\x00\x00\x00\x00"), Some(2));
        assert_eq!(at(Bits::B32, b"\xff\x15\x00\x00\x00\x00"), None);
    }

    #[test]
    fn the_short_cuts_agree_with_the_decoder() {
        for first in 0..=255u8 {
            let code = [first, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            for bits in [Bits::B32, Bits::B64] {
                let Some(step) = step(bits, &code) else { continue };
                assert_eq!(step.len, decoder(bits, 0, &code).decode().len(), "{first:#x}");
            }
        }
    }
}
