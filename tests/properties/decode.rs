//! Code decoded by iced-x86: where it goes, and whether it does nothing.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};
use pvops::image::Bits;
use pvops::insn::INT3;

/// A branch, or an operand relative to `%rip`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Branch {
    pub mnemonic: Mnemonic,
    pub target: u64,
}

pub fn instructions(bits: Bits, address: u64, code: &[u8]) -> Vec<Instruction> {
    let (bitness, address) = match bits {
        Bits::B32 => (32, address & 0xffff_ffff),
        Bits::B64 => (64, address),
    };
    Decoder::with_ip(bitness, code, address, DecoderOptions::NONE).into_iter().collect()
}

/// Everything in this code that names an address by its distance, in order. Jumps that are nops are left out: over
/// nothing, and over nothing but ten `int3` and more, which a run of nops becomes.
pub fn branches(bits: Bits, address: u64, code: &[u8]) -> Vec<Branch> {
    let mut found = Vec::new();
    let start = if bits == Bits::B32 { address & 0xffff_ffff } else { address };
    for insn in instructions(bits, address, code) {
        let behind = insn.next_ip().wrapping_sub(start) as usize;
        let target = match insn.flow_control() {
            _ if insn.is_ip_rel_memory_operand() => insn.ip_rel_memory_address(),
            _ if insn.op0_kind() == OpKind::NearBranch64 || insn.op0_kind() == OpKind::NearBranch32 => {
                insn.near_branch_target()
            }
            _ => continue,
        };
        let over = target.wrapping_sub(insn.next_ip()) as usize;
        let jumped = code.get(behind..).and_then(|rest| rest.get(..over));
        let idle = insn.flow_control() == FlowControl::UnconditionalBranch
            && (over == 0 || over >= 10)
            && jumped.is_some_and(|bytes| bytes.iter().all(|&b| b == INT3));
        if !idle {
            found.push(Branch { mnemonic: insn.mnemonic(), target });
        }
    }
    found
}

/// Whether an instruction does nothing: `nop`, or a register moved or loaded into itself.
pub fn is_nop(insn: &Instruction) -> bool {
    match insn.mnemonic() {
        Mnemonic::Nop => true,
        Mnemonic::Mov => insn.op0_register() != Register::None && insn.op0_register() == insn.op1_register(),
        Mnemonic::Lea => {
            let (base, index) = (insn.memory_base(), insn.memory_index());
            let register = if base == Register::None { index } else { base };
            let one = base == Register::None || index == Register::None;
            insn.memory_displacement64() == 0
                && one
                && insn.memory_index_scale() == 1
                && insn.op0_register() == register
        }
        _ => false,
    }
}
