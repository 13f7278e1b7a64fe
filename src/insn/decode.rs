//! The decoder, and the branches that paravirt sites are built of.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, OpKind, Register};

use super::bits::Bits;

pub(super) fn decoder(bits: Bits, address: u64, code: &[u8]) -> Decoder<'_> {
    let bitness = match bits {
        Bits::B32 => 32,
        Bits::B64 => 64,
    };
    Decoder::with_ip(bitness, code, address, DecoderOptions::NONE)
}

/// An indirect call or jump through memory, as a paravirt site is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryBranch {
    /// Where the instruction starts, in bytes from the start of the site.
    pub offset: usize,
    /// Its length in bytes.
    pub len: usize,
    /// A `jmp`, not a `call`.
    pub jump: bool,
    /// Address of the pointer it goes through.
    pub pointer: u64,
}

/// The first indirect call or jump through a fixed place in memory among these instructions, if any.
///
/// A site of the 2007 and 2010 eras may begin with pushes; later ones are the one instruction.
pub fn memory_branch(bits: Bits, address: u64, code: &[u8]) -> Option<MemoryBranch> {
    let mut decoder = decoder(bits, address, code);
    let mut insn = Instruction::default();
    while decoder.can_decode() {
        decoder.decode_out(&mut insn);
        if insn.is_invalid() {
            return None;
        }
        let jump = match insn.code() {
            Code::Call_rm64 | Code::Call_rm32 => false,
            Code::Jmp_rm64 | Code::Jmp_rm32 => true,
            _ => continue,
        };
        let fixed = insn.op0_kind() == OpKind::Memory
            && matches!(insn.memory_base(), Register::None | Register::RIP)
            && insn.memory_index() == Register::None;
        if !fixed {
            continue;
        }
        let pointer = match bits {
            Bits::B64 => insn.memory_displacement64(),
            Bits::B32 => insn.memory_displacement64() & 0xffff_ffff,
        };
        return Some(MemoryBranch { offset: (insn.ip() - address) as usize, len: insn.len(), jump, pointer });
    }
    None
}

/// Where the pointer lies that a call of six bytes goes through, `ff 15 disp32`: the one indirect call that
/// `alt_replace_call()` makes direct (`arch/x86/kernel/alternative.c`, 6.8 on). `code` is that call and nothing else.
pub fn called_pointer(bits: Bits, address: u64, code: &[u8]) -> Option<u64> {
    let [0xff, 0x15, a, b, c, d] = *code else { return None };
    let displacement = i32::from_le_bytes([a, b, c, d]);
    Some(match bits {
        Bits::B32 => u64::from(displacement as u32),
        Bits::B64 => address.wrapping_add(6).wrapping_add_signed(displacement.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_of_six_bytes_says_what_it_goes_through() {
        let call = b"\xff\x15\xe0\x93\xa3\x01";
        assert_eq!(called_pointer(Bits::B64, 0xffff_ffff_8100_261a, call), Some(0xffff_ffff_82a3_ba00));
        assert_eq!(called_pointer(Bits::B32, 0xc100_0000, b"\xff\x15\x20\xe8\xc6\xc1"), Some(0xc1c6_e820));
        // A jump, a call with a prefix, less than a call.
        for code in [&b"\xff\x25\xe0\x93\xa3\x01"[..], b"\x2e\xff\x15\xe0\x93\xa3\x01", b"\xff\x15\xe0\x93"] {
            assert_eq!(called_pointer(Bits::B64, 0, code), None);
        }
    }

    #[test]
    fn sites_of_every_era_are_recognised() {
        let found = |bits, address, code: &[u8]| {
            memory_branch(bits, address, code).map(|b| (b.offset, b.len, b.jump, b.pointer))
        };
        // 6.1, RIP-relative
        assert_eq!(
            found(Bits::B64, 0xffff_ffff_8100_261a, b"\xff\x15\xe0\x93\xa3\x01"),
            Some((0, 6, false, 0xffff_ffff_82a3_ba00))
        );
        // 5.10, absolute, sign-extended
        assert_eq!(
            found(Bits::B64, 0xffff_ffff_8100_0000, b"\xff\x14\x25\x20\x31\x63\x82"),
            Some((0, 7, false, 0xffff_ffff_8263_3120))
        );
        // iret, a jump
        assert_eq!(
            found(Bits::B64, 0xffff_ffff_8100_0000, b"\xff\x25\x00\x01\x00\x00"),
            Some((0, 6, true, 0xffff_ffff_8100_0106))
        );
        // i386
        assert_eq!(found(Bits::B32, 0xc100_0000, b"\xff\x15\x20\xe8\xc6\xc1"), Some((0, 6, false, 0xc1c6_e820)));
        // 2007 assembler: pushes, the %cs prefix
        assert_eq!(
            found(Bits::B32, 0xc010_0000, b"\x50\x51\x52\x2e\xff\x15\x08\x00\x40\xc0\x5a\x59\x58"),
            Some((3, 7, false, 0xc040_0008))
        );
        // not through a fixed place
        assert_eq!(found(Bits::B64, 0, b"\xff\x10"), None);
        assert_eq!(found(Bits::B64, 0, b"\xe8\x00\x00\x00\x00"), None);
        assert_eq!(found(Bits::B64, 0, b"\xff"), None);
    }
}
