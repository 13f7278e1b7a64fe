//! The edge to x86: nop tables, `call` and `jmp` encoders, the bounded insn buffer, and the one place that decodes.
//!
//! The encoders are the kernel's, a byte and a displacement; tests hold them to iced-x86's decoder.

use std::cell::RefCell;
use std::rc::Rc;

use iced_x86::{
    Code, Decoder, DecoderOptions, Formatter, GasFormatter, Instruction, OpKind, Register, SymbolResolver, SymbolResult,
};

use crate::error::{Error, Result};
use crate::image::Bits;

mod step;
mod sweep;

pub use step::{Step, step};
pub(crate) use sweep::{Sweep, Swept};

/// `MAX_PATCH_LEN` of every era: the kernel's insn buffer, 255 − 1 bytes (arch/x86/include/asm/alternative.h).
pub const MAX_PATCH_LEN: usize = 254;

/// Length of `call rel32` and of `jmp rel32`.
pub const CALL_LEN: usize = 5;

/// `call rel32`.
pub const CALL: u8 = 0xe8;
/// `jmp rel32`.
pub const JMP: u8 = 0xe9;
/// `jmp rel8`.
pub const JMP_SHORT: u8 = 0xeb;
/// `ret`.
pub const RET: u8 = 0xc3;
/// `int3`.
pub const INT3: u8 = 0xcc;
/// `nop` of one byte.
pub const NOP: u8 = 0x90;

/// One of the kernel's nop tables: the nops it fills with, of 1 to `ASM_NOP_MAX` bytes (8; 11 on x86-64 since 6.5).
#[derive(Debug, PartialEq, Eq)]
pub struct NopTable {
    /// The kernel's name, without `_nops`: `k8`, `k7`, `p6`, `generic`; `x86`, `x86-32` and `x86-11` where there is no
    /// choice.
    pub name: &'static str,
    /// The one nop of five bytes that may be written while another CPU runs it (`NOP_ATOMIC5`, one instruction): what
    /// ftrace, jump labels and static calls use.
    pub atomic5: [u8; 5],
    nops: &'static [&'static [u8]],
}

/// AMD K8: `66` prefixes on `90` (arch/x86/include/asm/nops.h up to 5.12).
pub static K8_NOPS: NopTable = NopTable {
    name: "k8",
    atomic5: *b"\x66\x66\x66\x66\x90",
    nops: &[
        b"\x90",
        b"\x66\x90",
        b"\x66\x66\x90",
        b"\x66\x66\x66\x90",
        b"\x66\x66\x90\x66\x90",
        b"\x66\x66\x90\x66\x66\x90",
        b"\x66\x66\x66\x90\x66\x66\x90",
        b"\x66\x66\x66\x90\x66\x66\x66\x90",
    ],
};

/// AMD K7: `lea` and `mov` of `%eax` to itself.
pub static K7_NOPS: NopTable = NopTable {
    name: "k7",
    atomic5: *b"\x3e\x8d\x44\x20\x00",
    nops: &[
        b"\x90",
        b"\x8b\xc0",
        b"\x8d\x04\x20",
        b"\x8d\x44\x20\x00",
        b"\x8d\x44\x20\x00\x90",
        b"\x8d\x80\x00\x00\x00\x00",
        b"\x8d\x04\x05\x00\x00\x00\x00",
        b"\x8d\x04\x05\x00\x00\x00\x00\x90",
    ],
};

/// Any 32-bit CPU: `lea` and `mov` of `%esi` to itself (`intel_nops`; 2.6.x called them generic).
pub static GENERIC_NOPS: NopTable = NopTable {
    name: "generic",
    atomic5: *b"\x3e\x8d\x74\x26\x00",
    nops: &[
        b"\x90",
        b"\x89\xf6",
        b"\x8d\x76\x00",
        b"\x8d\x74\x26\x00",
        b"\x90\x8d\x74\x26\x00",
        b"\x8d\xb6\x00\x00\x00\x00",
        b"\x8d\xb4\x26\x00\x00\x00\x00",
        b"\x90\x8d\xb4\x26\x00\x00\x00\x00",
    ],
};

/// Intel P6 and later: `nopl`.
pub static P6_NOPS: NopTable = NopTable { name: "p6", atomic5: NOPL5, nops: NOPL.split_at(8).0 };

/// 64-bit kernels since 5.13: `nopl`, whatever the CPU.
pub static X86_NOPS: NopTable = NopTable { name: "x86", atomic5: NOPL5, nops: NOPL.split_at(8).0 };

/// 64-bit kernels since 6.5: the same, and three longer ones with prefixes.
pub static X86_11_NOPS: NopTable = NopTable { name: "x86-11", atomic5: NOPL5, nops: NOPL };

/// 32-bit kernels since 5.13: the generic nops, with `3e` where those had a second instruction.
pub static X86_32_NOPS: NopTable = NopTable {
    name: "x86-32",
    atomic5: *b"\x3e\x8d\x74\x26\x00",
    nops: &[
        b"\x90",
        b"\x89\xf6",
        b"\x8d\x76\x00",
        b"\x8d\x74\x26\x00",
        b"\x3e\x8d\x74\x26\x00",
        b"\x8d\xb6\x00\x00\x00\x00",
        b"\x8d\xb4\x26\x00\x00\x00\x00",
        b"\x3e\x8d\xb4\x26\x00\x00\x00\x00",
    ],
};

const NOPL5: [u8; 5] = *b"\x0f\x1f\x44\x00\x00";

const NOPL: &[&[u8]] = &[
    b"\x90",
    b"\x66\x90",
    b"\x0f\x1f\x00",
    b"\x0f\x1f\x40\x00",
    b"\x0f\x1f\x44\x00\x00",
    b"\x66\x0f\x1f\x44\x00\x00",
    b"\x0f\x1f\x80\x00\x00\x00\x00",
    b"\x0f\x1f\x84\x00\x00\x00\x00\x00",
    b"\x2e\x0f\x1f\x84\x00\x00\x00\x00\x00",
    b"\x66\x2e\x0f\x1f\x84\x00\x00\x00\x00\x00",
    b"\x66\x66\x2e\x0f\x1f\x84\x00\x00\x00\x00\x00",
];

static NOP_TABLES: [&NopTable; 7] =
    [&K8_NOPS, &K7_NOPS, &GENERIC_NOPS, &P6_NOPS, &X86_NOPS, &X86_32_NOPS, &X86_11_NOPS];

impl NopTable {
    /// The table of this name.
    pub fn by_name(name: &str) -> Result<&'static NopTable> {
        NOP_TABLES.iter().copied().find(|t| t.name == name).ok_or_else(|| {
            let known: Vec<_> = NOP_TABLES.iter().map(|t| t.name).collect();
            Error::ops(format!("no nop table {name:?}; there are {}", known.join(", ")))
        })
    }

    /// `add_nops()`: fills the buffer, the longest nop first.
    pub fn fill(&self, buffer: &mut [u8]) {
        let longest = self.nops.len();
        let mut rest = buffer;
        while !rest.is_empty() {
            let (head, tail) = rest.split_at_mut(rest.len().min(longest));
            head.copy_from_slice(self.nops[head.len() - 1]);
            rest = tail;
        }
    }

    /// `add_nop()` of 6.5 and later: one effective instruction over the whole buffer, a nop where one is long enough, else
    /// a jump over `int3`.
    pub fn span(&self, buffer: &mut [u8]) {
        if buffer.is_empty() {
            return;
        }
        if let Some(nop) = self.nops.get(buffer.len() - 1) {
            return buffer.copy_from_slice(nop);
        }
        let len = buffer.len();
        let head: &[u8] = match u8::try_from(len - 2) {
            Ok(short) if len < 128 => &[JMP_SHORT, short],
            _ => &jmp(0, len as u64),
        };
        buffer[..head.len()].copy_from_slice(head);
        buffer[head.len()..].fill(INT3);
    }
}

/// `call rel32` from `address` to `target`.
///
/// The displacement is cut to 32 bits, as every era's kernel does it: a target out of reach (a poisoned pointer) makes a
/// call to somewhere else, and no kernel notices.
pub fn call(address: u64, target: u64) -> [u8; CALL_LEN] {
    branch(CALL, address, target)
}

/// `jmp rel32` from `address` to `target`, cut to 32 bits likewise.
pub fn jmp(address: u64, target: u64) -> [u8; CALL_LEN] {
    branch(JMP, address, target)
}

fn branch(opcode: u8, address: u64, target: u64) -> [u8; CALL_LEN] {
    let [a, b, c, d] = (target.wrapping_sub(address.wrapping_add(CALL_LEN as u64)) as u32).to_le_bytes();
    [opcode, a, b, c, d]
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

fn decoder(bits: Bits, address: u64, code: &[u8]) -> Decoder<'_> {
    let bitness = match bits {
        Bits::B32 => 32,
        Bits::B64 => 64,
    };
    Decoder::with_ip(bitness, code, address, DecoderOptions::NONE)
}

/// Names an address for the disassembler: a symbol and the offset into it.
pub type Namer<'a> = &'a dyn Fn(u64) -> Option<(String, u64)>;

/// The formatter owns its resolver for good, the namer is borrowed: so the few addresses an instruction mentions are
/// named before it is formatted, and left here for the resolver.
#[derive(Clone, Default)]
struct Named(Rc<RefCell<Vec<(u64, String)>>>);

impl Named {
    fn prepare(&self, insn: &Instruction, namer: Namer<'_>) {
        let mut named = self.0.borrow_mut();
        named.clear();
        for operand in 0..insn.op_count() {
            let address = match insn.op_kind(operand) {
                OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 => insn.near_branch_target(),
                OpKind::Memory if insn.memory_displ_size() >= 4 => insn.memory_displacement64(),
                OpKind::Immediate32 | OpKind::Immediate32to64 | OpKind::Immediate64 => insn.immediate(operand),
                _ => continue,
            };
            if let Some((name, offset)) = namer(address) {
                named.push((address, if offset == 0 { name } else { format!("{name}+{offset:#x}") }));
            }
        }
    }
}

impl SymbolResolver for Named {
    fn symbol(&mut self, _: &Instruction, _: u32, _: Option<u32>, address: u64, _: u32) -> Option<SymbolResult<'_>> {
        let named = self.0.borrow();
        named.iter().find(|(a, _)| *a == address).map(|(a, text)| SymbolResult::with_string(*a, text.clone()))
    }
}

/// One instruction of a disassembly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where it starts, in bytes from the start of the code.
    pub offset: usize,
    /// Its length in bytes.
    pub len: usize,
    /// AT&T syntax, as the kernel's own sources and `objdump` show it; `(bad)` where nothing decodes.
    pub text: String,
}

/// Disassembles code in AT&T syntax. Making one costs more than an instruction: keep it for many sites.
pub struct Disassembler {
    bits: Bits,
    formatter: GasFormatter,
    named: Named,
}

impl Disassembler {
    /// A disassembler of 32- or 64-bit code.
    pub fn new(bits: Bits) -> Disassembler {
        let named = Named::default();
        let mut formatter = GasFormatter::with_options(Some(Box::new(named.clone())), None);
        let options = formatter.options_mut();
        options.set_uppercase_hex(false);
        options.set_branch_leading_zeros(false);
        options.set_displacement_leading_zeros(false);
        options.set_show_symbol_address(false);
        options.set_space_after_operand_separator(false);
        options.set_rip_relative_addresses(true);
        Disassembler { bits, formatter, named }
    }

    /// The instructions of some code, naming addresses where the namer knows them.
    ///
    /// A byte that starts no instruction becomes a line `(bad)` of one byte, and decoding goes on behind it.
    pub fn lines(&mut self, address: u64, code: &[u8], namer: Namer<'_>) -> Vec<Line> {
        let mut decoder = decoder(self.bits, address, code);
        let mut insn = Instruction::default();
        let mut lines = Vec::with_capacity(2);
        while decoder.can_decode() {
            let offset = decoder.position();
            decoder.decode_out(&mut insn);
            if insn.is_invalid() {
                lines.push(Line { offset, len: 1, text: "(bad)".to_owned() });
                // Position and address move together; both were inside the code a moment ago.
                if decoder.set_position(offset + 1).is_err() {
                    break;
                }
                decoder.set_ip(address.wrapping_add(offset as u64 + 1));
                continue;
            }
            self.named.prepare(&insn, namer);
            let mut text = String::with_capacity(32);
            self.formatter.format(&insn, &mut text);
            // binutils dropped the suffix where it says nothing (2.37); so do we.
            for (long, short) in [("callq ", "call "), ("jmpq ", "jmp "), ("retq", "ret")] {
                if text.starts_with(long) {
                    text.replace_range(..long.len(), short);
                }
            }
            lines.push(Line { offset, len: insn.len(), text });
        }
        lines
    }
}

/// Disassembles one piece of code; see [`Disassembler::lines`].
pub fn disassemble(bits: Bits, address: u64, code: &[u8], namer: Namer<'_>) -> Vec<Line> {
    Disassembler::new(bits).lines(address, code, namer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn length_of_each(bits: Bits, code: &[u8]) -> Vec<usize> {
        disassemble(bits, 0x1000, code, &|_| None).iter().map(|l| l.len).collect()
    }

    #[test]
    fn every_nop_table_fills_with_the_longest_nops_first() {
        for table in NOP_TABLES {
            let longest = table.nops.len();
            let mut buffer = vec![0xccu8; 2 * longest + 3];
            table.fill(&mut buffer);
            assert_eq!(buffer[..longest], *table.nops[longest - 1], "{}", table.name);
            assert_eq!(buffer[longest..2 * longest], *table.nops[longest - 1], "{}", table.name);
            assert_eq!(buffer[2 * longest..], *table.nops[2], "{}", table.name);
        }
    }

    #[test]
    fn every_nop_has_its_length_and_decodes_to_instructions_of_that_length() {
        for table in NOP_TABLES {
            let bits = if matches!(table.name, "k8" | "p6" | "x86" | "x86-11") { Bits::B64 } else { Bits::B32 };
            for (i, nop) in table.nops.iter().enumerate() {
                assert_eq!(nop.len(), i + 1, "{}", table.name);
                let lines = disassemble(bits, 0, nop, &|_| None);
                assert_eq!(lines.iter().map(|l| l.len).sum::<usize>(), nop.len());
                assert!(lines.iter().all(|l| l.text != "(bad)"), "{}: {lines:?}", table.name);
            }
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

    #[test]
    fn disassembly_is_att_and_names_what_it_knows() {
        let namer = |a: u64| (a == 0xffff_ffff_82a3_ba00).then(|| ("pv_ops".to_owned(), 0x100));
        let lines = disassemble(Bits::B64, 0xffff_ffff_8100_261a, b"\xff\x15\xe0\x93\xa3\x01\xfa\x06", &namer);
        let text: Vec<_> = lines.iter().map(|l| (l.offset, l.text.as_str())).collect();
        assert_eq!(text, [(0, "call *pv_ops+0x100(%rip)"), (6, "cli"), (7, "(bad)")]);
    }

    proptest! {
        #[test]
        fn an_encoded_branch_decodes_to_its_target(address: u64, delta in i32::MIN..i32::MAX, jump: bool) {
            let target = address.wrapping_add(5).wrapping_add(i64::from(delta) as u64);
            let code = if jump { jmp(address, target) } else { call(address, target) };
            let insn = decoder(Bits::B64, address, &code).decode();
            prop_assert_eq!(insn.len(), CALL_LEN);
            prop_assert_eq!(insn.near_branch_target(), target);
            prop_assert_eq!(insn.code(), if jump { Code::Jmp_rel32_64 } else { Code::Call_rel32_64 });
        }

        #[test]
        fn an_encoded_branch_of_i386_reaches_everything(address: u32, target: u32) {
            let code = call(address.into(), target.into());
            prop_assert_eq!(decoder(Bits::B32, address.into(), &code).decode().near_branch_target(), u64::from(target));
        }

        #[test]
        fn any_bytes_disassemble_to_their_length(address: u64, code: Vec<u8>, wide: bool) {
            let bits = if wide { Bits::B64 } else { Bits::B32 };
            let total: usize = length_of_each(bits, &code).iter().sum();
            prop_assert_eq!(total, code.len());
            let _ = memory_branch(bits, address, &code);
        }
    }
}
