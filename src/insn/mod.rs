//! The edge to x86: nop tables, `call` and `jmp` encoders, and the one place that decodes.

mod addresses;
mod bits;
mod decode;
mod disassemble;
mod encode;
mod nops;
mod registers;
mod step;
mod sweep;

pub(crate) use addresses::addresses;
pub use bits::Bits;
pub use decode::{MemoryBranch, called_pointer, memory_branch};
pub use disassemble::{Disassembler, Line, Namer, disassemble};
pub(crate) use encode::CS;
pub use encode::{CALL, CALL_LEN, INT3, JMP, JMP_SHORT, MAX_PATCH_LEN, NOP, RET, THUNK_SIZE, call, jmp};
pub use nops::{GENERIC_NOPS, K7_NOPS, K8_NOPS, NOP_TABLES, NopTable, P6_NOPS, X86_11_NOPS, X86_32_NOPS, X86_NOPS};
pub(crate) use registers::{Effect, Registers};
pub use step::{Step, step};
pub(crate) use sweep::{Sweep, Swept};
