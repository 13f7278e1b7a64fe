//! `call` and `jmp` as the kernel encodes them, a byte and a displacement; tests hold them to iced-x86's decoder.

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
/// The prefix `cs`, which 64 bits ignore: it makes an instruction longer.
pub(crate) const CS: u8 = 0x2e;

/// Distance of two thunks in their array (`RETPOLINE_THUNK_SIZE`, include/asm/nospec-branch.h of every version).
pub const THUNK_SIZE: u64 = 32;

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

#[cfg(test)]
mod tests {
    use iced_x86::Code;
    use proptest::prelude::*;

    use super::*;
    use crate::insn::Bits;
    use crate::insn::decode::decoder;

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
    }
}
