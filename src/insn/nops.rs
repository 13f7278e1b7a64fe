//! The kernel's nop tables.

use super::encode::{INT3, JMP_SHORT, jmp};
use crate::error::{Error, Result};

/// One of the kernel's nop tables: the nops it fills with, of 1 to `ASM_NOP_MAX` bytes (8; 11 on x86-64 since 6.5,
/// df25edbac31e).
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

/// 64-bit kernels since 5.13 (a89dfde3dc3c): `nopl`, whatever the CPU.
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

/// All of them.
pub static NOP_TABLES: [&NopTable; 7] =
    [&K8_NOPS, &K7_NOPS, &GENERIC_NOPS, &P6_NOPS, &X86_NOPS, &X86_32_NOPS, &X86_11_NOPS];

impl NopTable {
    /// Its bytes as the kernel has them in an array, the shortest nop first.
    pub fn bytes(&self) -> impl Iterator<Item = u8> + '_ {
        self.nops.iter().flat_map(|nop| nop.iter().copied())
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::insn::{Bits, disassemble};

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
}
