//! Linear disassembly: where instructions start, and where direct branches go.

use iced_x86::{Decoder, Instruction, OpKind};

use super::bits::Bits;
use super::decode::decoder;

/// `ud2` and three letters before an instruction that a hypervisor is to emulate: `XEN_EMULATE_PREFIX` and
/// `KVM_EMULATE_PREFIX` (arch/x86/include/asm/emulate_prefix.h). The letters never run; `xe` would be a `js`.
const EMULATE: [&[u8]; 2] = [b"\x0f\x0bxen", b"\x0f\x0bkvm"];

/// One instruction that a [`Sweep`] came by. Offsets are from the start of the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Swept {
    /// Where it starts.
    pub start: usize,
    /// Where the next one starts.
    pub end: usize,
    /// Where it branches to, where it is a direct near branch.
    pub target: Option<u64>,
}

/// Goes through code instruction by instruction. A byte that starts none is passed over.
pub(crate) struct Sweep<'a> {
    decoder: Decoder<'a>,
    address: u64,
    code: &'a [u8],
    insn: Instruction,
}

impl<'a> Sweep<'a> {
    /// A sweep from the start of the code.
    pub fn new(bits: Bits, address: u64, code: &'a [u8]) -> Sweep<'a> {
        Sweep { decoder: decoder(bits, address, code), address, code, insn: Instruction::default() }
    }

    /// Where the next instruction starts.
    pub fn position(&self) -> usize {
        self.decoder.position()
    }

    /// Goes on at this offset; at the end, where the code has no such offset.
    pub fn seek(&mut self, offset: usize) {
        let offset = offset.min(self.decoder.max_position());
        // Never beyond the last position, so it cannot fail.
        if self.decoder.set_position(offset).is_ok() {
            self.decoder.set_ip(self.address.wrapping_add(offset as u64));
        }
    }
}

impl Iterator for Sweep<'_> {
    type Item = Swept;

    fn next(&mut self) -> Option<Swept> {
        while self.decoder.can_decode() {
            let start = self.decoder.position();
            if EMULATE.iter().any(|prefix| self.code[start..].starts_with(prefix)) {
                self.seek(start + EMULATE[0].len());
                return Some(Swept { start, end: self.decoder.position(), target: None });
            }
            self.decoder.decode_out(&mut self.insn);
            if self.insn.is_invalid() {
                self.seek(start + 1);
                continue;
            }
            let near = self.insn.op_count() > 0
                && matches!(self.insn.op0_kind(), OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64);
            let target = near.then(|| self.insn.near_branch_target());
            return Some(Swept { start, end: self.decoder.position(), target });
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_follow_each_other_and_bytes_that_are_none_are_passed_over() {
        let code = b"\x74\x02\x06\x2e\xe8\x00\x00\x00\x00\xe3\xfe\xe8";
        let found: Vec<_> = Sweep::new(Bits::B64, 0x1000, code).map(|s| (s.start, s.end, s.target)).collect();
        assert_eq!(found, [(0, 2, Some(0x1004)), (3, 9, Some(0x1009)), (9, 11, Some(0x1009))]);
        let mut sweep = Sweep::new(Bits::B64, 0x1000, code);
        sweep.seek(9);
        assert_eq!(sweep.next(), Some(Swept { start: 9, end: 11, target: Some(0x1009) }));
        sweep.seek(100);
        assert_eq!(sweep.next(), None);
    }
}
