//! An ELF file with a symbol table: what gdb, perf and objdump name addresses by, made of the kallsyms in the image.

use object::elf;
use object::read::elf::FileHeader;
use object::write::{WritableBuffer, elf as write};
use object::{Endianness, LittleEndian as LE};

use crate::error::{Error, Result};
use crate::image::{Bits, Image};
use crate::patch::PatchedFile;
use crate::patch::strings::Strings;

/// The image's file, changed or not, with a `.symtab` where it has none of its own and names symbols otherwise.
///
/// What follows the ELF file (the kernel's lists of relocations) follows it again.
pub(super) fn added<'a>(image: &Image, mut file: PatchedFile<'a>) -> Result<PatchedFile<'a>> {
    if image.elf_symbols().next().is_some() || image.symbols()?.is_none_or(|symbols| symbols.is_empty()) {
        return Ok(file);
    }
    file.end = image.bytes().len().saturating_sub(image.trailer().len());
    let bytes = &image.bytes()[..file.end];
    let around = match image.bits() {
        Bits::B64 => written::<elf::FileHeader64<LE>>(image, bytes)?,
        Bits::B32 => written::<elf::FileHeader32<LE>>(image, bytes)?,
    };
    (file.head, file.added) = (around.head, around.behind);
    Ok(file)
}

/// What is written before and behind bytes that stay as they are, and are passed over by padding.
#[derive(Debug, Default)]
struct Around {
    head: Vec<u8>,
    /// How many bytes were passed over.
    between: usize,
    behind: Vec<u8>,
}

impl WritableBuffer for Around {
    fn reserve(&mut self, _: u64) -> std::result::Result<(), ()> {
        Ok(())
    }

    fn write_bytes(&mut self, val: &[u8]) {
        let part = if self.between == 0 { &mut self.head } else { &mut self.behind };
        part.extend_from_slice(val);
    }

    fn write_zeros(&mut self, additional: u64) {
        let additional = usize::try_from(additional).unwrap_or(usize::MAX);
        if self.between == 0 {
            self.between = additional;
        } else {
            self.behind.resize(self.behind.len().saturating_add(additional), 0);
        }
    }
}

/// One row of the table.
struct Row<'a> {
    name: &'a str,
    info: elf::SymbolInfo,
    section: elf::SymbolSection,
    address: u64,
    size: u64,
}

/// A row a symbol that stands for something in memory, by address. A symbol reaches up to the next one, or to the end of
/// its section.
fn rows(image: &Image) -> Result<Vec<Row<'_>>> {
    let Some(symbols) = image.symbols()? else { return Ok(Vec::new()) };
    let sections = image.sections();
    let mut rows: Vec<Row<'_>> = Vec::with_capacity(symbols.len());
    // From where on rows have the address of the last.
    let mut same = 0;
    // The section of the last, for the addresses up to here.
    let (mut place, mut holds) = (None, 0..0);
    for (address, kind, name) in symbols.iter().filter(|(_, kind, _)| kind.is_place()) {
        if rows.last().is_some_and(|last| last.address < address) {
            rows[same..].iter_mut().for_each(|row| row.size = row.size.min(address - row.address));
            same = rows.len();
        }
        if !holds.contains(&address) {
            place = sections.iter().position(|section| section.contains(address));
            let bounds = sections.iter().filter(|s| s.allocated).flat_map(|s| [s.address, s.end()]);
            holds = address..bounds.filter(|&bound| bound > address).min().unwrap_or(u64::MAX);
        }
        let section = place.and_then(|index| sections.get(index));
        let size = section.map_or(0, |section| section.end() - address);
        let what = match section {
            Some(section) if section.executable => elf::STT_FUNC,
            Some(_) => elf::STT_OBJECT,
            None => elf::STT_NOTYPE,
        };
        let binding = match kind.letter() {
            'w' | 'W' | 'v' | 'V' => elf::STB_WEAK,
            _ if kind.is_global() => elf::STB_GLOBAL,
            _ => elf::STB_LOCAL,
        };
        // The null section comes first in the file and is not in the list.
        let section = place.and_then(|index| u16::try_from(index + 1).ok()).map_or(elf::SHN_ABS, elf::SymbolSection);
        rows.push(Row { name, info: elf::SymbolInfo::new(binding, what), section, address, size });
    }
    Ok(rows)
}

fn written<H: FileHeader<Endian = LE>>(image: &Image, bytes: &[u8]) -> Result<Around> {
    let malformed = |error: object::read::Error| Error::image(error.to_string()).in_file(image.name());
    let refuse = |error: object::write::Error| Error::image(error.to_string()).in_file(image.name());
    let header = H::parse(bytes).map_err(malformed)?;
    let table = header.sections(LE, bytes).map_err(malformed)?;
    if table.is_empty() {
        return Ok(Around::default());
    }
    let rows = rows(image)?;
    let mut out = Around::default();
    let mut writer = write::Writer::new(Endianness::Little, header.is_class_64(), &mut out);
    writer.reserve_file_header();
    writer.reserve_until(bytes.len() as u64);
    writer.reserve_null_section_index();
    let old_names = header.shstrndx(LE, bytes).map_err(malformed)? as usize;
    let mut section_names = Vec::with_capacity(table.len());
    for (index, section) in table.iter().enumerate().skip(1) {
        if index == old_names {
            writer.reserve_shstrtab_section_index();
            section_names.push(None);
        } else {
            section_names.push(Some(writer.add_section_name(table.section_name(LE, section).map_err(malformed)?)));
            writer.reserve_section_index();
        }
    }
    writer.reserve_symtab_section_index();
    writer.reserve_strtab_section_index();
    let strings_name = writer.add_section_name(b".strtab");
    writer.reserve_null_symbol_index();
    let strings = Strings::of(rows.iter().map(|row| row.name));
    for _ in &rows {
        writer.reserve_symbol_index(None);
    }
    writer.reserve_symtab();
    let strings_at = writer.reserve(strings.table.len() as u64, 1);
    writer.reserve_shstrtab().map_err(refuse)?;
    writer.reserve_section_headers();

    writer.write_file_header(&write::FileHeader::from_raw(LE, header)).map_err(refuse)?;
    writer.pad_until(bytes.len() as u64);
    writer.write_null_symbol();
    // Local ones come first, as the format wants it.
    let is_local = |row: &Row<'_>| row.info.st_bind() == elf::STB_LOCAL;
    for local in [true, false] {
        for (row, &st_name) in rows.iter().zip(&strings.offsets).filter(|(row, _)| is_local(row) == local) {
            writer.write_symbol(&write::Sym {
                section: None,
                st_name,
                st_info: row.info,
                st_other: elf::SymbolOther(0),
                st_shndx: row.section,
                st_value: row.address,
                st_size: row.size,
            });
        }
    }
    writer.write(&strings.table);
    writer.write_shstrtab();
    writer.write_null_section_header();
    for (section, name) in table.iter().skip(1).zip(section_names) {
        let Some(name) = name else {
            writer.write_shstrtab_section_header();
            continue;
        };
        let mut header = write::SectionHeader::from_raw(LE, section);
        header.sh_name = writer.section_name_offset(Some(name));
        writer.write_section_header(&header);
    }
    let locals = rows.iter().filter(|row| is_local(row)).count();
    writer.write_symtab_section_header(locals as u32 + 1);
    writer.write_section_header(&write::SectionHeader {
        sh_name: writer.section_name_offset(Some(strings_name)),
        sh_type: elf::SHT_STRTAB,
        sh_offset: strings_at,
        sh_size: strings.table.len() as u64,
        sh_addralign: 1,
        ..write::SectionHeader::default()
    });
    // The program headers are among the bytes and stay there: e_phoff, then e_phentsize and e_phnum.
    for field in if header.is_class_64() { [32..40, 54..58] } else { [28..32, 42..46] } {
        if let (Some(to), Some(from)) = (out.head.get_mut(field.clone()), bytes.get(field)) {
            to.copy_from_slice(from);
        }
    }
    Ok(out)
}
