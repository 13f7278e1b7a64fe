//! The addresses that an instruction has in itself.

use iced_x86::{Instruction, OpKind, Register};

use super::bits::Bits;
use super::decode::decoder;

/// An instruction's length, and what it has of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Addresses {
    /// Its length in bytes.
    pub len: usize,
    /// Where the memory is that it reads or writes, or where an array of it begins: with no register but an index, and
    /// not of a segment with a base of its own (per-CPU data). Beside it, whether that is said relative to the instruction.
    pub memory: Option<(u64, bool)>,
    /// A constant as wide as an address.
    pub constant: Option<u64>,
}

/// What the instruction has that begins here; `None` where nothing decodes.
pub(crate) fn addresses(bits: Bits, address: u64, code: &[u8]) -> Option<Addresses> {
    let mut decoder = decoder(bits, address, code);
    if !decoder.can_decode() {
        return None;
    }
    let insn = decoder.decode();
    if insn.is_invalid() {
        return None;
    }
    let wide =
        |at: &u32| matches!(insn.op_kind(*at), OpKind::Immediate32 | OpKind::Immediate32to64 | OpKind::Immediate64);
    let constant = (0..insn.op_count()).find(wide).map(|at| insn.immediate(at) & bits.max_address());
    Some(Addresses { len: insn.len(), memory: memory(bits, &insn), constant })
}

fn memory(bits: Bits, insn: &Instruction) -> Option<(u64, bool)> {
    let operand = (0..insn.op_count()).any(|at| insn.op_kind(at) == OpKind::Memory);
    let based = !matches!(insn.memory_base(), Register::None | Register::RIP);
    let segment = matches!(insn.segment_prefix(), Register::FS | Register::GS);
    if !operand || based || segment {
        return None;
    }
    Some((insn.memory_displacement64() & bits.max_address(), insn.memory_base() == Register::RIP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_at_fixed_places_arrays_and_constants() {
        type Case = (Bits, &'static [u8], Option<(u64, bool)>, Option<u64>);
        let cases: [Case; 8] = [
            // mov table(,%eax,4),%eax; mov list,%ebx; cmp $head,%ecx
            (Bits::B32, b"\x8b\x04\x85\xa0\x6c\xed\xc1", Some((0xc1ed_6ca0, false)), None),
            (Bits::B32, b"\x8b\x1d\x78\x6e\xed\xc1", Some((0xc1ed_6e78, false)), None),
            (Bits::B32, b"\x81\xf9\xc4\x38\xce\xc1", None, Some(0xc1ce_38c4)),
            // The stack's canary, a member of what a register points at.
            (Bits::B32, b"\x64\xa1\x00\x08\xe8\xc1", None, None),
            (Bits::B32, b"\x8b\x43\x04", None, None),
            // mov table(,%rdx,8),%rax; mov list(%rip),%rbx; cmpb $0,flag(%rip)
            (Bits::B64, b"\x48\x8b\x04\xd5\x00\x10\x40\x83", Some((0xffff_ffff_8340_1000, false)), None),
            (Bits::B64, b"\x48\x8b\x1d\x00\x01\x00\x00", Some((0x1107, true)), None),
            (Bits::B64, b"\x80\x3d\x00\x01\x00\x00\x00", Some((0x1107, true)), None),
        ];
        for (bits, code, memory, constant) in cases {
            let found = Addresses { len: code.len(), memory, constant };
            assert_eq!(addresses(bits, 0x1000, code), Some(found), "{code:x?}");
        }
        assert_eq!(addresses(Bits::B64, 0, b"\x06"), None);
        assert_eq!(addresses(Bits::B64, 0, b""), None);
    }
}
