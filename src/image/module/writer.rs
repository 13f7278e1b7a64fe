//! The linked file: the object's bytes as they are now, then what is new, as an executable without segments.

use object::elf;
use object::read::elf::{FileHeader, SectionHeader, SectionTable};
use object::write::elf as write;
use object::{Endianness, LittleEndian as LE};

use super::layout::{KERNEL, Layout, MAX_SECTIONS, MAX_SIZE, StandIn, kernel_base};
use crate::error::Result;
use crate::image::elf::header_error;
use crate::insn::Bits;

/// What new tables are aligned to.
const ALIGN: u64 = 8;

/// A symbol of the new table.
pub(super) struct Symbol {
    pub name: Vec<u8>,
    pub address: u64,
    pub size: u64,
    pub info: elf::SymbolInfo,
    pub section: elf::SymbolSection,
}

/// The section that stands for the kernel, and what of it has bytes: its arrays.
struct Kernel {
    base: u64,
    size: u64,
    data: Vec<u8>,
}

/// Gives each name that only [`StandIn`] has its place, and fills in the arrays.
fn kernel(layout: &mut Layout, known: &StandIn) -> Result<Kernel> {
    let word = layout.bits.word();
    for name in &known.names {
        layout.of_kernel(name.as_bytes());
    }
    // Arrays first: the section that stands for the kernel has bytes as far as they reach.
    let mut contents = Vec::new();
    for (name, functions) in &known.arrays {
        let at = layout.of_kernel(name.as_bytes());
        let pointers = functions.iter().map(|f| f.as_ref().map_or(0, |f| layout.of_kernel(f.as_bytes())));
        contents.push((at, pointers.collect::<Vec<u64>>()));
    }
    let base = kernel_base(layout.bits);
    let size = layout.next - base;
    if size > MAX_SIZE {
        return Err(header_error("names too many symbols of the kernel".to_owned()));
    }
    let end = contents.iter().map(|(at, pointers)| at - base + (pointers.len() * word) as u64).max().unwrap_or(0);
    let mut data = vec![0; usize::try_from(end).unwrap_or(0)];
    for (at, pointers) in contents {
        for (i, pointer) in pointers.iter().enumerate() {
            let place = (at - base) as usize + i * word;
            data[place..place + word].copy_from_slice(&pointer.to_le_bytes()[..word]);
        }
    }
    Ok(Kernel { base, size, data })
}

/// Writes the file. `object` is the module's, relocated; `others` are (start, size) of what else is in memory.
pub(super) fn write<H: FileHeader<Endian = LE>>(
    header: &H,
    object: &[u8],
    table: &SectionTable<'_, H>,
    mut layout: Layout,
    mut symbols: Vec<Symbol>,
    known: &StandIn,
    others: &[(u64, u64)],
) -> Result<Vec<u8>> {
    let kernel = kernel(&mut layout, known)?;
    let stand_in = table.len() as u16;
    let mut names: Vec<(Vec<u8>, u64)> = std::mem::take(&mut layout.kernel).into_iter().collect();
    names.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
    symbols.extend(names.into_iter().map(|(name, address)| {
        let place = if address - kernel.base < kernel.data.len() as u64 { stand_in } else { stand_in + 1 };
        let info = elf::SymbolInfo::new(elf::STB_GLOBAL, elf::STT_NOTYPE);
        Symbol { name, address, size: 0, info, section: elf::SymbolSection(place) }
    }));
    if symbols.iter().any(|symbol| symbol.name.contains(&0)) {
        return Err(header_error("a symbol's name has a zero byte in it".to_owned()));
    }
    // What stands for the kernel, the names, and the names of sections.
    if table.len() + others.len() + 4 > MAX_SECTIONS {
        return Err(header_error("has too many sections, its own and those of the modules it uses".to_owned()));
    }
    let malformed = |error: object::read::Error| header_error(error.to_string());
    let refuse = |error: object::write::Error| header_error(error.to_string());

    let mut out = Vec::new();
    let mut writer = write::Writer::new(Endianness::Little, layout.bits == Bits::B64, &mut out);
    writer.reserve_file_header();
    writer.reserve_until(object.len() as u64);
    let data_at = writer.reserve(kernel.data.len() as u64, ALIGN);
    writer.reserve_null_section_index();
    // Header 0 is no section's, whatever it says.
    let symtab = (1..).zip(table.iter().skip(1)).find(|(_, section)| section.sh_type(LE) == elf::SHT_SYMTAB);
    let symtab = symtab.map(|(index, _)| index);
    if symtab.is_none() {
        // Nothing for the names to stand in, and nothing of the object's own that asks for them.
        symbols.clear();
    }
    let mut section_names = Vec::with_capacity(table.len());
    for (index, section) in table.iter().enumerate().skip(1) {
        if Some(index) == symtab {
            section_names.push(None);
            writer.reserve_symtab_section_index();
        } else {
            let name = table.section_name(LE, section).map_err(malformed)?;
            section_names.push(Some(writer.add_section_name(name)));
            writer.reserve_section_index();
        }
    }
    let kernel_name = writer.add_section_name(KERNEL.as_bytes());
    for _ in 0..2 + others.len() {
        writer.reserve_section_index();
    }
    writer.reserve_strtab_section_index();
    writer.reserve_shstrtab_section_index();
    writer.require_strtab();
    if symtab.is_some() {
        writer.reserve_null_symbol_index();
    }
    let symbol_names: Vec<_> = symbols.iter().map(|symbol| writer.add_string(&symbol.name)).collect();
    for _ in &symbols {
        writer.reserve_symbol_index(None);
    }
    writer.reserve_symtab();
    writer.reserve_strtab().map_err(refuse)?;
    writer.reserve_shstrtab().map_err(refuse)?;
    writer.reserve_section_headers();

    let file = write::FileHeader { e_type: elf::ET_EXEC, ..write::FileHeader::from_raw(LE, header) };
    writer.write_file_header(&file).map_err(refuse)?;
    writer.write(object.get(writer.len() as usize..).unwrap_or_default());
    writer.pad_until(data_at);
    writer.write(&kernel.data);
    if symtab.is_some() {
        writer.write_null_symbol();
    }
    for (symbol, &name) in symbols.iter().zip(&symbol_names) {
        writer.write_symbol(&write::Sym {
            section: None,
            st_name: writer.string_offset(Some(name)),
            st_info: symbol.info,
            st_other: elf::SymbolOther(0),
            st_shndx: symbol.section,
            st_value: symbol.address,
            st_size: symbol.size,
        });
    }
    writer.write_strtab();
    writer.write_shstrtab();
    writer.write_null_section_header();
    for ((index, section), name) in table.iter().enumerate().skip(1).zip(section_names) {
        let Some(name) = name else {
            writer.write_symtab_section_header(1);
            continue;
        };
        let put = layout.sections.get(index).copied().flatten();
        let mut header = write::SectionHeader::from_raw(LE, section);
        header.sh_name = writer.section_name_offset(Some(name));
        header.sh_addr = put.map_or(0, |put| put.address);
        if put.is_none() {
            // The loader does not keep all that says it is to be kept.
            header.sh_flags.0 &= !elf::SHF_ALLOC.0;
        }
        writer.write_section_header(&header);
    }
    let mut stands = |kind, address, offset, size| {
        writer.write_section_header(&write::SectionHeader {
            sh_name: writer.section_name_offset(Some(kernel_name)),
            sh_type: kind,
            sh_flags: elf::SHF_WRITE | elf::SHF_ALLOC,
            sh_addr: address,
            sh_offset: offset,
            sh_size: size,
            sh_link: 0,
            sh_info: 0,
            sh_addralign: 1,
            sh_entsize: 0,
        });
    };
    let end = kernel.data.len() as u64;
    stands(elf::SHT_PROGBITS, kernel.base, data_at, end);
    stands(elf::SHT_NOBITS, kernel.base + end, data_at, kernel.size - end);
    for &(start, size) in others {
        stands(elf::SHT_NOBITS, start, 0, size);
    }
    writer.write_strtab_section_header();
    writer.write_shstrtab_section_header();
    Ok(out)
}
