//! Relocations that the linker left in an ELF `vmlinux` (`ld --emit-relocs`, which relocatable kernels are linked with; the
//! build strips them again from the file it installs). Which of them the kernel applies when it moves itself is decided as
//! `arch/x86/tools/relocs.c` decides it: fields with absolute addresses, and distances to per-CPU data that is linked at 0.

use object::LittleEndian as LE;
use object::elf;
use object::read::elf::{FileHeader, Rel, Rela, SectionHeader, Sym, SymbolTable};

use crate::error::{Error, Result};
use crate::image::opened::Image;
use crate::image::relocation::{Relocation, RelocationKind, Relocations};
use crate::image::section::{LOWEST_KERNEL, Section};
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
    let mut with = vec![false; image.sections().len()];
    for section in table.iter().filter(|section| matches!(section.sh_type(LE), elf::SHT_RELA | elf::SHT_REL)) {
        let Some(index) = (section.sh_info(LE) as usize).checked_sub(1) else { continue };
        let Some(target) = image.sections().get(index) else { continue };
        if !target.allocated || !target.bits_present || target.address < LOWEST_KERNEL {
            continue;
        }
        with[index] = true;
        let mut take = |row: usize, address: u64, kind: elf::RelocationType, symbol: usize| -> Result<()> {
            let refuse = |reason: &str| Error::image(reason).in_section(&target.name).at_row(row).at_address(address);
            // `scripts/sorttable.c` sorts `__ex_table` and makes its relocations rows of zeros: `R_X86_64_NONE` of no symbol.
            if kind == NONE {
                return Ok(());
            }
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
    // Where those of some sections were stripped, what is left does not say where the kernel has its addresses.
    let whole = image.sections().iter().zip(&with).all(|(section, &with)| with || !needs(section));
    if with.contains(&true) && whole { Relocations::new(fields).map(Some) } else { Ok(None) }
}

/// `R_X86_64_NONE` and `R_386_NONE`.
const NONE: elf::RelocationType = elf::RelocationType(0);
/// No code of a kernel that is as long as this is without an absolute address.
const LONG: u64 = 4096;

/// Whether a section has absolute addresses in every relocatable kernel: code and constants of some length.
fn needs(section: &Section) -> bool {
    let has = section.executable || section.name == ".rodata";
    has && section.allocated && section.bits_present && section.size >= LONG
}

fn is_per_cpu(section: &Section) -> bool {
    section.allocated && section.address < LOWEST_KERNEL
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

fn class<H: FileHeader<Endian = LE>>(image: &Image, symbols: &SymbolTable<'_, H>, index: usize) -> Option<Class> {
    let symbol = symbols.symbol(object::SymbolIndex(index)).ok()?;
    Some(match symbol.st_shndx(LE) {
        elf::SHN_ABS | elf::SHN_UNDEF => Class::Absolute,
        section => match image.sections().get(usize::from(section.0).checked_sub(1)?) {
            // The linker puts addresses at the ends of per-CPU data into its section; `is_percpu_sym()` of
            // `arch/x86/tools/relocs.c` (6.1) excepts them by name.
            Some(section) if is_per_cpu(section) => match symbols.symbol_name(LE, symbol).ok()? {
                b"__init_begin" | b"__per_cpu_load" => Class::Moving,
                name if name.starts_with(b"init_per_cpu_") => Class::Moving,
                _ => Class::PerCpu,
            },
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
