//! The relocations of a module, as `apply_relocate_add()` applies them.

use object::LittleEndian as LE;
use object::elf;
use object::read::elf::{FileHeader, Rel, Rela, SectionHeader};

use super::layout::Layout;
use crate::error::{Error, Result};
use crate::image::elf::header_error;
use crate::image::relocation::{Relocation, RelocationKind};
use crate::insn::Bits;
use crate::numbers::i32_at;

/// Fields that hold what depends on where the module and the kernel are.
#[derive(Debug, Default)]
pub struct Fields {
    /// They change with the slide.
    pub moving: Vec<Relocation>,
    /// They refer to what was freed: address, width.
    pub unknown: Vec<(u64, u64)>,
}

/// Such fields of what stays as it was loaded.
#[derive(Debug, Default)]
pub(in crate::image) struct Kept {
    pub code: Fields,
    pub constants: Fields,
}

/// What a symbol stands for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Value {
    /// Its address.
    pub address: u64,
    /// It moves with the kernel.
    pub moves: bool,
    /// It refers to memory that was freed: unknown.
    pub gone: bool,
}

/// Applies the relocations of one section of them.
pub(super) fn relocate<H: FileHeader<Endian = LE>>(
    bytes: &[u8],
    section: &H::SectionHeader,
    table: &object::read::elf::SectionTable<'_, H>,
    layout: &Layout,
    values: &[Value],
    out: &mut [u8],
    kept: &mut Kept,
) -> Result<()> {
    let target = section.sh_info(LE) as usize;
    let Some(Some(put)) = layout.sections.get(target).copied() else { return Ok(()) };
    let start = put.address;
    let Ok(into) = table.section(object::SectionIndex(target)) else { return Ok(()) };
    let name = table.section_name(LE, into).map(|name| String::from_utf8_lossy(name).into_owned()).unwrap_or_default();
    let (offset, size): (u64, u64) = (into.sh_offset(LE).into(), into.sh_size(LE).into());
    let bits_present = into.sh_type(LE) != elf::SHT_NOBITS;
    let flags: u64 = into.sh_flags(LE).0;
    let mut fields = match (flags & elf::SHF_EXECINSTR.0 != 0, flags & elf::SHF_WRITE.0 != 0) {
        (true, _) => Some(&mut kept.code),
        (false, false) => Some(&mut kept.constants),
        (false, true) => None,
    };
    let malformed = |error: object::read::Error| header_error(error.to_string()).in_section(&name);
    let mut apply =
        |row: usize, at: u64, symbol: usize, kind: elf::RelocationType, addend: Option<i64>| -> Result<()> {
            let refuse = |reason: String| {
                Err(Error::image(reason)
                    .in_section(&format!(".rela{name}"))
                    .at_row(row)
                    .at_address(start.wrapping_add(at)))
            };
            let Some(&value) = values.get(symbol) else {
                return refuse(format!("names symbol {symbol}, which there is not"));
            };
            let Some((width, relative)) = field(layout.bits, kind) else {
                return refuse(format!("is of type {}, which the kernel's loader does not know either", kind.0));
            };
            if width == 0 {
                return Ok(());
            }
            let place = bits_present.then(|| at.checked_add(width).filter(|&end| end <= size)).flatten();
            let held = place
                .and_then(|_| out.get_mut(usize::try_from(offset.checked_add(at)?).ok()?..)?.get_mut(..width as usize));
            let Some(held) = held else { return refuse(format!("{width} bytes leave the section")) };
            let in_place = i32_at(held, 0).map_or(0, i64::from);
            let mut sum = value.address.wrapping_add(addend.unwrap_or(in_place) as u64);
            let address = start.wrapping_add(at);
            if relative {
                sum = sum.wrapping_sub(address);
            }
            if let Some(fields) = fields.as_mut().filter(|_| value.gone && !put.gone) {
                fields.unknown.push((address, width));
            }
            let kind = match (width, relative, value.moves) {
                (8, false, true) => Some(RelocationKind::Word64),
                (4, false, true) => Some(RelocationKind::Word32),
                (4, true, false) => Some(RelocationKind::Inverse32),
                _ => None,
            };
            if let (Some(fields), Some(kind)) = (&mut fields, kind) {
                fields.moving.push(Relocation { address, kind });
            }
            held.copy_from_slice(&sum.to_le_bytes()[..width as usize]);
            Ok(())
        };
    if let Some((rows, _)) = section.rela(LE, bytes).map_err(malformed)? {
        for (row, rela) in rows.iter().enumerate() {
            let symbol = rela.r_sym(LE, false) as usize;
            apply(row, rela.r_offset(LE).into(), symbol, rela.r_type(LE, false), Some(rela.r_addend(LE).into()))?;
        }
    }
    if let Some((rows, _)) = section.rel(LE, bytes).map_err(malformed)? {
        for (row, rel) in rows.iter().enumerate() {
            apply(row, rel.r_offset(LE).into(), rel.r_sym(LE) as usize, rel.r_type(LE), None)?;
        }
    }
    Ok(())
}

/// Width of the field that a type of relocation changes, and whether it holds a distance (`apply_relocate_add()` of
/// `arch/x86/kernel/module.c`).
fn field(bits: Bits, kind: elf::RelocationType) -> Option<(u64, bool)> {
    match (bits, kind) {
        (Bits::B64, elf::R_X86_64_NONE) => Some((0, false)),
        (Bits::B64, elf::R_X86_64_64) => Some((8, false)),
        (Bits::B64, elf::R_X86_64_PC32 | elf::R_X86_64_PLT32) => Some((4, true)),
        (Bits::B64, elf::R_X86_64_32 | elf::R_X86_64_32S) => Some((4, false)),
        (Bits::B64, elf::R_X86_64_PC64) => Some((8, true)),
        (Bits::B32, elf::R_386_NONE) => Some((0, false)),
        (Bits::B32, elf::R_386_32) => Some((4, false)),
        (Bits::B32, elf::R_386_PC32 | elf::R_386_PLT32) => Some((4, true)),
        _ => None,
    }
}
