//! Relocations that the linker left in an ELF `vmlinux` (`ld --emit-relocs`, which relocatable kernels are linked with; the
//! build strips them again from the file it installs). Which of them the kernel applies when it moves itself is decided as
//! `arch/x86/tools/relocs.c` decides it: fields with absolute addresses, and distances to per-CPU data that is linked at 0.

use object::LittleEndian as LE;
use object::elf;
use object::read::elf::{FileHeader, Rel, Rela, SectionHeader, Sym, SymbolTable};

use super::fields::{Relocation, RelocationKind, Relocations};
use crate::error::{Error, Result};
use crate::image::opened::Image;
use crate::image::section::LOWEST_KERNEL;
use crate::insn::Bits;

/// Reads them; `None` where there are none.
pub(super) fn read(image: &Image) -> Result<Option<Relocations>> {
    match image.bits() {
        Bits::B32 => read_class::<elf::FileHeader32<LE>>(image),
        Bits::B64 => read_class::<elf::FileHeader64<LE>>(image),
    }
}

fn read_class<H: FileHeader<Endian = LE>>(image: &Image) -> Result<Option<Relocations>> {
    let bytes = image.bytes();
    let malformed = |error: object::read::Error| Error::image(error.to_string());
    let table = H::parse(bytes).and_then(|header| header.sections(LE, bytes)).map_err(malformed)?;
    let symbols = table.symbols(LE, bytes, elf::SHT_SYMTAB).map_err(malformed)?;
    let mut fields = Vec::new();
    let mut any = false;
    for section in table.iter().filter(|section| matches!(section.sh_type(LE), elf::SHT_RELA | elf::SHT_REL)) {
        let Some(target) = (section.sh_info(LE) as usize).checked_sub(1).and_then(|i| image.sections().get(i)) else {
            continue;
        };
        if !target.allocated || !target.bits_present || target.address < LOWEST_KERNEL {
            continue;
        }
        any = true;
        let mut take = |row: usize, address: u64, kind: elf::RelocationType, symbol: usize| -> Result<()> {
            let refuse = |reason: &str| Error::image(reason).in_section(&target.name).at_row(row).at_address(address);
            let what = class(image, &symbols, symbol).ok_or_else(|| refuse("names a symbol that there is not"))?;
            let Some(kind) = moves(image.bits(), kind, what) else { return Ok(()) };
            if image.read(address, kind.width()).is_none() {
                return Err(refuse("field lies in no section with bytes"));
            }
            fields.push(Relocation { address, kind });
            Ok(())
        };
        if let Some((rows, _)) = section.rela(LE, bytes).map_err(malformed)? {
            for (row, rela) in rows.iter().enumerate() {
                let symbol = rela.r_sym(LE, false) as usize;
                take(row, rela.r_offset(LE).into(), rela.r_type(LE, false), symbol)?;
            }
        }
        if let Some((rows, _)) = section.rel(LE, bytes).map_err(malformed)? {
            for (row, rel) in rows.iter().enumerate() {
                take(row, rel.r_offset(LE).into(), rel.r_type(LE), rel.r_sym(LE) as usize)?;
            }
        }
    }
    if any { Relocations::new(fields).map(Some) } else { Ok(None) }
}

/// What a relocation refers to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// A place that moves with the kernel.
    Moving,
    /// Per-CPU data linked at 0.
    PerCpu,
    /// A number.
    Absolute,
}

fn class<H: FileHeader<Endian = LE>>(image: &Image, symbols: &SymbolTable<'_, H>, symbol: usize) -> Option<Class> {
    let index = symbols.symbol(object::SymbolIndex(symbol)).ok()?.st_shndx(LE);
    Some(match index {
        elf::SHN_ABS | elf::SHN_UNDEF => Class::Absolute,
        index => match image.sections().get(usize::from(index.0).checked_sub(1)?) {
            Some(section) if section.allocated && section.address < LOWEST_KERNEL => Class::PerCpu,
            Some(_) => Class::Moving,
            None => return None,
        },
    })
}

/// How the field changes; `None` where it does not.
fn moves(bits: Bits, kind: elf::RelocationType, what: Class) -> Option<RelocationKind> {
    match (bits, kind, what) {
        (Bits::B64, elf::R_X86_64_64, Class::Moving) => Some(RelocationKind::Word64),
        (Bits::B64, elf::R_X86_64_32 | elf::R_X86_64_32S, Class::Moving) => Some(RelocationKind::Word32),
        (Bits::B64, elf::R_X86_64_PC32 | elf::R_X86_64_PLT32, Class::PerCpu) => Some(RelocationKind::Inverse32),
        (Bits::B32, elf::R_386_32, Class::Moving) => Some(RelocationKind::Word32),
        _ => None,
    }
}
