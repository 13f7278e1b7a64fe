//! The symbol table of an ELF file, which a distribution's `vmlinux` with debug information has and a vmlinuz has not.

use object::LittleEndian as LE;
use object::elf;
use object::read::elf::{FileHeader, SectionHeader, Sym};

use super::section::Section;
use super::text;
use crate::error::{Error, Result};
use crate::insn::Bits;

/// Longest name of a symbol. `KSYM_NAME_LEN` is 512; the bound keeps a string table that is one endless string from being
/// searched again for every symbol.
const MAX_NAME: usize = 4096;

/// A symbol of `.symtab`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElfSymbol<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its value: an address, except that of an absolute symbol (kind `A`).
    pub address: u64,
    /// Its size, 0 where the source did not give one.
    pub size: u64,
    /// What `nm` and `/proc/kallsyms` call its type: `T` is global code, `d` local data.
    pub kind: char,
}

/// Where the symbols are: ranges in the file, checked.
#[derive(Debug)]
pub(super) struct SymbolTable {
    entries: (usize, usize),
    strings: (usize, usize),
    bits: Bits,
}

impl SymbolTable {
    /// Finds and checks the one symbol table.
    pub fn find<H: FileHeader<Endian = LE>>(
        headers: &[H::SectionHeader],
        sections: &[Section],
        bits: Bits,
    ) -> Result<Option<SymbolTable>> {
        let Some(index) = headers.iter().position(|header| header.sh_type(LE) == elf::SHT_SYMTAB) else {
            return Ok(None);
        };
        let header = &headers[index];
        // `sections` lacks the null section.
        let section = |index: usize| sections.get(index.checked_sub(1)?).filter(|section| section.bits_present);
        let Some(table) = section(index) else { return Ok(None) };
        let refuse = |reason: String| Error::image(reason).in_section(&table.name).at_offset(table.offset);
        let entry = entry_size(bits) as u64;
        if table.size % entry != 0 || header.sh_entsize(LE).into() != entry {
            return Err(refuse(format!("{} bytes are no whole number of symbols", table.size)));
        }
        let Some(strings) = section(header.sh_link(LE) as usize) else {
            return Err(refuse(format!("names are in section {}, which there is not", header.sh_link(LE))));
        };
        let range =
            |section: &Section| Some((usize::try_from(section.offset).ok()?, usize::try_from(section.size).ok()?));
        let (Some(entries), Some(strings)) = (range(table), range(strings)) else {
            return Err(refuse("too large for this machine".to_owned()));
        };
        Ok(Some(SymbolTable { entries, strings, bits }))
    }
}

fn entry_size(bits: Bits) -> usize {
    match bits {
        Bits::B32 => size_of::<elf::Sym32<LE>>(),
        Bits::B64 => size_of::<elf::Sym64<LE>>(),
    }
}

/// The symbols of an image, in the table's order. Symbols without a name or a place (undefined ones, files, sections)
/// are left out. An item is an error where a name leaves the string table.
#[derive(Debug, Clone)]
pub struct ElfSymbols<'a> {
    entries: &'a [u8],
    strings: &'a [u8],
    sections: &'a [Section],
    bits: Bits,
    row: usize,
}

impl<'a> ElfSymbols<'a> {
    pub(super) fn new(bytes: &'a [u8], table: Option<&SymbolTable>, sections: &'a [Section]) -> ElfSymbols<'a> {
        let part = |(offset, size): (usize, usize)| bytes.get(offset..)?.get(..size);
        let (entries, strings, bits) = match table {
            Some(table) => {
                (part(table.entries).unwrap_or_default(), part(table.strings).unwrap_or_default(), table.bits)
            }
            None => (&[][..], &[][..], Bits::B64),
        };
        ElfSymbols { entries, strings, sections, bits, row: 0 }
    }

    fn decode<S: Sym<Endian = LE>>(&self, symbol: &S, row: usize) -> Option<Result<ElfSymbol<'a>>> {
        if matches!(symbol.st_type(), elf::STT_FILE | elf::STT_SECTION) || symbol.st_name(LE) == 0 {
            return None;
        }
        let kind = self.kind(symbol)?;
        let name = self
            .strings
            .get(symbol.st_name(LE) as usize..)
            .and_then(|rest| rest.get(..memchr::memchr(0, &rest[..rest.len().min(MAX_NAME)])?))
            .and_then(text::of);
        let Some(name) = name else {
            let reason = format!("name at {:#x} is not text in the string table", symbol.st_name(LE));
            return Some(Err(Error::image(reason).in_section(".symtab").at_row(row)));
        };
        Some(Ok(ElfSymbol { name, address: symbol.st_value(LE).into(), size: symbol.st_size(LE).into(), kind }))
    }

    /// The letter, as `nm` gives it; `None` for a symbol that is not defined here.
    fn kind<S: Sym<Endian = LE>>(&self, symbol: &S) -> Option<char> {
        let index = symbol.st_shndx(LE);
        let letter = match index {
            elf::SHN_UNDEF => return None,
            elf::SHN_ABS => 'a',
            _ => {
                let section = self.sections.get(usize::from(index.0).checked_sub(1)?)?;
                match (section.executable, section.bits_present, section.writable) {
                    (true, ..) => 't',
                    (_, false, _) => 'b',
                    (_, _, true) => 'd',
                    _ => 'r',
                }
            }
        };
        Some(match symbol.st_bind() {
            elf::STB_LOCAL => letter,
            elf::STB_WEAK if symbol.st_type() == elf::STT_OBJECT => 'V',
            elf::STB_WEAK => 'W',
            _ => letter.to_ascii_uppercase(),
        })
    }
}

impl<'a> Iterator for ElfSymbols<'a> {
    type Item = Result<ElfSymbol<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (entry, rest) = self.entries.split_at_checked(entry_size(self.bits))?;
            self.entries = rest;
            let row = self.row;
            self.row += 1;
            let symbol = match self.bits {
                Bits::B32 => self.decode(object::pod::from_bytes::<elf::Sym32<LE>>(entry).ok()?.0, row),
                Bits::B64 => self.decode(object::pod::from_bytes::<elf::Sym64<LE>>(entry).ok()?.0, row),
            };
            if symbol.is_some() {
                return symbol;
            }
        }
    }
}
