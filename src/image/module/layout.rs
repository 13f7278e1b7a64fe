//! Where the sections of a module and the symbols of its kernel are put, at addresses of our own.

use std::collections::HashMap;

use object::LittleEndian as LE;
use object::elf;
use object::read::elf::{FileHeader, SectionHeader};

use crate::error::Result;
use crate::image::elf::header_error;
use crate::insn::{Bits, THUNK_SIZE};

/// The section that stands for the kernel.
pub const KERNEL: &str = ".kernel";
/// What each symbol of the kernel's gets: more than any structure whose members modules address.
pub(super) const ROOM: u64 = 4096;
/// More memory than any module takes.
pub(super) const MAX_SIZE: u64 = 256 << 20;
/// A section aligned to more than this is a slip.
pub(super) const MAX_ALIGN: u64 = 2 << 20;
/// Numbers of sections from `SHN_LORESERVE`, 0xff00, on mean something else; there is room for what is added.
pub(super) const MAX_SECTIONS: usize = 0xfe00;
/// Numbers of the registers in `__x86_indirect_thunk_array`, which is in this order.
const THUNKS: [&str; 16] =
    ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"];
/// What is known of the kernel that a module is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StandIn {
    /// Names of functions and data that the module does not use itself, but its patching does.
    pub names: Vec<String>,
    /// Arrays of pointers: their name, and the function that each pointer is to.
    pub arrays: Vec<(String, Vec<Option<String>>)>,
}

/// A section of a module in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Put {
    /// Where it is, as if the kernel had not slid.
    pub address: u64,
    /// It moves with the kernel; per-CPU data does not.
    pub moves: bool,
    /// It was freed once the module was up: its address is made up.
    pub gone: bool,
}

/// Where everything is put.
pub(super) struct Layout {
    pub bits: Bits,
    /// Of each section header; `None` where it is not in memory.
    pub sections: Vec<Option<Put>>,
    /// The kernel's symbols.
    pub kernel: HashMap<Vec<u8>, u64>,
    /// Where the next of them goes.
    pub next: u64,
}

impl Layout {
    pub fn new(bits: Bits) -> Layout {
        let mut layout = Layout { bits, sections: Vec::new(), kernel: HashMap::new(), next: kernel_base(bits) };
        let array = layout.of_kernel(b"__x86_indirect_thunk_array");
        for (i, register) in (0u64..).zip(THUNKS) {
            let prefix = match (bits, register.starts_with('r')) {
                (_, true) => "",
                (Bits::B32, _) => "e",
                (Bits::B64, _) => "r",
            };
            layout
                .kernel
                .insert(format!("__x86_indirect_thunk_{prefix}{register}").into_bytes(), array + THUNK_SIZE * i);
        }
        layout
    }

    /// The layout of a module in memory.
    pub fn placed(bits: Bits, sections: Vec<Option<Put>>) -> Layout {
        Layout { bits, sections, kernel: HashMap::new(), next: kernel_base(bits) }
    }

    /// The address of a symbol of the kernel's.
    pub fn of_kernel(&mut self, name: &[u8]) -> u64 {
        let next = &mut self.next;
        *self.kernel.entry(name.to_vec()).or_insert_with(|| std::mem::replace(next, *next + ROOM))
    }
}

pub(super) fn kernel_base(bits: Bits) -> u64 {
    match bits {
        Bits::B64 => 0xffff_ffff_d000_0000,
        Bits::B32 => 0xfa00_0000,
    }
}

/// Lays sections out one behind the other.
pub(super) fn in_a_row<H: FileHeader<Endian = LE>>(
    table: &object::read::elf::SectionTable<'_, H>,
    bits: Bits,
) -> Result<Vec<Option<Put>>> {
    let mut next = match bits {
        Bits::B64 => 0xffff_ffff_c000_0000,
        Bits::B32 => 0xf800_0000u64,
    };
    let limit = next + MAX_SIZE;
    let mut sections = Vec::new();
    for section in table.iter() {
        let size: u64 = section.sh_size(LE).into();
        let flags: u64 = section.sh_flags(LE).0;
        if flags & elf::SHF_ALLOC.0 == 0 {
            sections.push(None);
            continue;
        }
        let align: u64 = Into::<u64>::into(section.sh_addralign(LE)).max(1);
        if align > MAX_ALIGN || !align.is_power_of_two() {
            return Err(header_error(format!("a section is aligned to {align:#x}")));
        }
        next = next.next_multiple_of(align);
        sections.push(Some(Put { address: next, moves: true, gone: false }));
        next = next
            .checked_add(size)
            .filter(|&end| end <= limit)
            .ok_or_else(|| header_error("is too large for a module".to_owned()))?;
    }
    Ok(sections)
}
