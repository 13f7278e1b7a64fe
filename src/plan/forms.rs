//! What stands in place of a call or return where no function is called, five bytes each; and `endbr`.

use super::rules::Zero;
use crate::insn::{INT3, NOP, RET};

/// Where an indirect branch may land.
pub const ENDBR64: [u8; 4] = *b"\xf3\x0f\x1e\xfa";
/// Likewise in 32-bit code.
pub const ENDBR32: [u8; 4] = *b"\xf3\x0f\x1e\xfb";
/// `ret`, and nothing runs behind it.
pub const RET5: [u8; 5] = [RET, INT3, INT3, INT3, INT3];

/// `data16 data16 xor %rax,%rax`.
pub const ZERO_DATA16: [u8; 5] = [0x66, 0x66, 0x48, 0x31, 0xc0];
/// `cs cs cs xor %eax,%eax`.
pub const ZERO: [u8; 5] = [0x2e, 0x2e, 0x2e, 0x31, 0xc0];
/// `ud1 (%edx),%rdi`.
pub const WARN: [u8; 5] = [0x67, 0x48, 0x0f, 0xb9, 0x3a];
/// `ds ds movb $0,(%rdi)`.
pub const UNLOCK: [u8; 5] = [0x3e, 0x3e, 0xc6, 0x07, 0x00];

/// A trampoline without target, as 5.10 was built at first.
pub const NULL_TRAMPOLINE: [u8; 5] = [RET, INT3, NOP, NOP, NOP];

impl Zero {
    /// What stands in place of a call of a function that returns 0.
    pub fn form(self) -> Option<[u8; 5]> {
        match self {
            Zero::Call => None,
            Zero::Data16 => Some(ZERO_DATA16),
            Zero::Cs => Some(ZERO),
        }
    }
}
