//! What instructions do to registers: which they write, and where they put a constant.

use iced_x86::{Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register};

use super::bits::Bits;
use super::decode::decoder;

/// What an instruction does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Effect {
    /// Its length in bytes.
    pub len: usize,
    /// The registers that it writes, a bit each, by their numbers in an instruction: `rax` is bit 0, `rdx` bit 2.
    pub written: u16,
    /// The number of a register that is a constant now, and the constant: `mov $imm,%reg`, `lea disp(%rip),%reg`.
    pub constant: Option<(usize, u64)>,
    /// Whether it is a call or a jump without condition.
    pub leaves: bool,
}

/// Looks at instructions.
pub(crate) struct Registers(InstructionInfoFactory);

impl Registers {
    pub fn new() -> Registers {
        Registers(InstructionInfoFactory::new())
    }

    /// What the instruction does that begins here; `None` where nothing decodes.
    pub fn effect(&mut self, bits: Bits, address: u64, code: &[u8]) -> Option<Effect> {
        let mut insn = Instruction::default();
        let mut decoder = decoder(bits, address, code);
        if !decoder.can_decode() {
            return None;
        }
        decoder.decode_out(&mut insn);
        if insn.is_invalid() {
            return None;
        }
        let mut written = 0;
        for used in self.0.info(&insn).used_registers() {
            let writes = matches!(
                used.access(),
                OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
            );
            if writes && let Some(number) = number(used.register()) {
                written |= 1 << number;
            }
        }
        let leaves = matches!(insn.mnemonic(), Mnemonic::Call | Mnemonic::Jmp);
        Some(Effect { len: insn.len(), written, constant: constant(bits, &insn), leaves })
    }
}

fn number(register: Register) -> Option<usize> {
    let full = register.full_register();
    full.is_gpr64().then(|| full.number())
}

fn constant(bits: Bits, insn: &Instruction) -> Option<(usize, u64)> {
    let register = || number(insn.op0_register()).filter(|_| insn.op0_kind() == OpKind::Register);
    let immediate = matches!(insn.op1_kind(), OpKind::Immediate32 | OpKind::Immediate32to64 | OpKind::Immediate64);
    match insn.mnemonic() {
        Mnemonic::Mov if insn.op_count() == 2 && immediate => Some((register()?, insn.immediate(1))),
        Mnemonic::Lea if bits == Bits::B64 && insn.is_ip_rel_memory_operand() => {
            Some((register()?, insn.ip_rel_memory_address()))
        }
        Mnemonic::Xor if insn.op0_register() == insn.op1_register() => Some((register()?, 0)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect(code: &[u8]) -> Effect {
        Registers::new().effect(Bits::B64, 0x1000, code).unwrap()
    }

    #[test]
    fn constants_and_what_else_is_written() {
        type Case = (&'static [u8], u16, Option<(usize, u64)>);
        let cases: [Case; 7] = [
            (b"\x48\xc7\xc7\x10\x20\x30\x81", 1 << 7, Some((7, 0xffff_ffff_8130_2010))),
            (b"\x48\x8d\x15\x00\x01\x00\x00", 1 << 2, Some((2, 0x1107))),
            (b"\x31\xd2", 1 << 2, Some((2, 0))),
            (b"\x48\x89\xfa", 1 << 2, None),
            (b"\x48\x0f\x44\xd0", 1 << 2, None),
            (b"\x0f\x31", 1 << 2 | 1, None),
            (b"\x48\xc7\x05\x00\x00\x00\x00\x10\x20\x30\x81", 0, None),
        ];
        for (code, written, constant) in cases {
            let found = effect(code);
            assert_eq!((found.len, found.written, found.constant), (code.len(), written, constant), "{code:x?}");
        }
        assert!(effect(b"\xe8\0\0\0\0").leaves && effect(b"\xe9\0\0\0\0").leaves && !effect(b"\x74\x00").leaves);
        assert_eq!(Registers::new().effect(Bits::B64, 0, b"\x06"), None);
    }
}
