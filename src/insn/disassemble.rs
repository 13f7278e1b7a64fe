//! Disassembly in AT&T syntax.

use std::cell::RefCell;
use std::rc::Rc;

use iced_x86::{Formatter, GasFormatter, Instruction, OpKind, SymbolResolver, SymbolResult};

use super::bits::Bits;
use super::decode::decoder;

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
    use proptest::prelude::*;

    use super::*;
    use crate::insn::memory_branch;

    fn length_of_each(bits: Bits, code: &[u8]) -> Vec<usize> {
        disassemble(bits, 0x1000, code, &|_| None).iter().map(|l| l.len).collect()
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
        fn any_bytes_disassemble_to_their_length(address: u64, code: Vec<u8>, wide: bool) {
            let bits = if wide { Bits::B64 } else { Bits::B32 };
            let total: usize = length_of_each(bits, &code).iter().sum();
            prop_assert_eq!(total, code.len());
            let _ = memory_branch(bits, address, &code);
        }
    }
}
