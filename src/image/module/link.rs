//! The linker: symbols get their values, fields their symbols, and tables the names of their bounds.

use object::LittleEndian as LE;
use object::elf;
use object::read::elf::{FileHeader, SectionHeader, Sym};

use super::layout::{Layout, MAX_SECTIONS, MAX_SIZE, ROOM, StandIn, in_a_row};
use super::placed::{self, Placement};
use super::relocate::{Kept, Value, relocate};
use super::writer::{self, Symbol};
use crate::error::{Error, Result};
use crate::image::elf::header_error;
use crate::image::section::LOWEST_KERNEL;
use crate::insn::Bits;

/// Tables whose bounds the kernel's linker script names: section, then what stands between `__start_` or `__stop_` and
/// the end.
const BOUNDED: [(&str, &str); 3] =
    [("__jump_table", "__jump_table"), ("__mcount_loc", "mcount_loc"), (".static_call_sites", "static_call_sites")];

/// Whether this is an object file.
pub(in crate::image) fn is_object(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x7fELF") && bytes.get(16..18) == Some(&[1, 0])
}

/// What a module is linked to.
#[derive(Debug, Clone, Copy)]
pub(in crate::image) enum Target<'p> {
    /// A kernel that is not there: what is known of it.
    StandIn(&'p StandIn),
    /// A kernel in memory.
    Memory(&'p Placement<'p>),
}

/// A linked module.
pub(in crate::image) struct Linked {
    /// An ELF file like a kernel's.
    pub file: Vec<u8>,
    /// How many bytes of code stay loaded, in whole pages; where the module's place is known.
    pub code: u64,
    /// What relocation left in code and constants.
    pub kept: Kept,
}

/// Lays out and relocates a module.
pub(in crate::image) fn link(bytes: &[u8], bits: Bits, target: Target<'_>) -> Result<Linked> {
    match bits {
        Bits::B32 => link_class::<elf::FileHeader32<LE>>(bytes, bits, target),
        Bits::B64 => link_class::<elf::FileHeader64<LE>>(bytes, bits, target),
    }
}

fn refuse(reason: impl Into<String>) -> Error {
    header_error(reason.into())
}

fn link_class<H: FileHeader<Endian = LE>>(bytes: &[u8], bits: Bits, target: Target<'_>) -> Result<Linked> {
    let malformed = |error: object::read::Error| refuse(error.to_string());
    let header = H::parse(bytes).map_err(malformed)?;
    let table = header.sections(LE, bytes).map_err(malformed)?;
    if table.len() >= MAX_SECTIONS {
        return Err(refuse(format!("{} sections are too many", table.len())));
    }
    let (mut layout, code) = match target {
        Target::StandIn(_) => {
            let mut layout = Layout::new(bits);
            layout.sections = in_a_row(&table, bits)?;
            (layout, 0)
        }
        Target::Memory(place) => {
            let (sections, code) = placed::sections(bytes, &table, bits, place)?;
            (Layout::placed(bits, sections), code)
        }
    };
    let symbols = table.symbols(LE, bytes, elf::SHT_SYMTAB).map_err(malformed)?;
    // The value of each symbol, by its number.
    let mut values = Vec::with_capacity(symbols.len());
    let mut listed = Vec::new();
    let stand_in = table.len() as u16;
    let placed = match target {
        Target::Memory(place) => Some(place),
        Target::StandIn(_) => None,
    };
    for (row, symbol) in symbols.iter().enumerate() {
        let at = |reason: String| Error::image(reason).in_section(".symtab").at_row(row);
        let name = symbol.name(LE, symbols.strings()).map_err(|error| at(error.to_string()))?;
        let value: u64 = symbol.st_value(LE).into();
        let (address, section) = match symbol.st_shndx(LE) {
            elf::SHN_UNDEF if row == 0 => (0, 0),
            elf::SHN_UNDEF if placed.is_some() => (exported(placed, name, symbol.st_bind()).map_err(at)?, stand_in),
            elf::SHN_UNDEF => {
                if layout.kernel.len() as u64 * ROOM > MAX_SIZE {
                    return Err(at("too many symbols of the kernel".to_owned()));
                }
                (layout.of_kernel(name), stand_in)
            }
            elf::SHN_ABS => (value, elf::SHN_ABS.0),
            index => match layout.sections.get(usize::from(index.0)) {
                Some(Some(put)) => (put.address.wrapping_add(value), index.0),
                Some(None) => (value, elf::SHN_ABS.0),
                None => return Err(at(format!("is in section {}, which there is not", index.0))),
            },
        };
        let put = layout.sections.get(usize::from(section)).copied().flatten();
        let moves = put.map_or(section == stand_in && address >= LOWEST_KERNEL, |put| put.moves);
        values.push(Value { address, moves, gone: put.is_some_and(|put| put.gone) });
        if section != stand_in && row > 0 {
            listed.push(Symbol {
                name: name.to_vec(),
                address,
                size: symbol.st_size(LE).into(),
                info: symbol.st_info(),
                section: elf::SymbolSection(section),
            });
        }
    }
    let mut out = bytes.to_vec();
    let mut kept = Kept::default();
    for section in table.iter() {
        relocate::<H>(bytes, section, &table, &layout, &values, &mut out, &mut kept)?;
    }
    let info = elf::SymbolInfo::new(elf::STB_GLOBAL, elf::STT_OBJECT);
    for (name, table_name) in BOUNDED {
        let found = table.section_by_name(LE, name.as_bytes());
        if let Some((index, section)) = found
            && let Some(Some(put)) = layout.sections.get(index.0)
        {
            let end = put.address.wrapping_add(section.sh_size(LE).into());
            for (prefix, address) in [("__start_", put.address), ("__stop_", end)] {
                let name = format!("{prefix}{table_name}").into_bytes();
                let section = elf::SymbolSection(index.0 as u16);
                listed.push(Symbol { name, address, size: 0, info, section });
            }
        }
    }
    let nothing = StandIn::default();
    let (kernel, others) = match target {
        Target::StandIn(kernel) => (kernel, &[][..]),
        Target::Memory(place) => (&nothing, place.others),
    };
    let file = writer::write(header, &out, &table, layout, listed, kernel, others)?;
    Ok(Linked { file, code, kept })
}

/// The address of what another exports to a module in memory.
fn exported(placed: Option<&Placement<'_>>, name: &[u8], bind: elf::SymbolBind) -> std::result::Result<u64, String> {
    match placed.and_then(|place| place.symbols.get(name)) {
        Some(&address) => Ok(address),
        None if bind == elf::STB_WEAK => Ok(0),
        None => {
            let name = String::from_utf8_lossy(name);
            Err(format!(
                "uses {name}, which neither the kernel nor the modules given have; give the modules it depends on"
            ))
        }
    }
}
