//! Writes small ELF files.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use pvops::image::Bits;

/// Section flags (`SHF_*`).
pub mod flags {
    pub const WRITE: u64 = 1;
    pub const ALLOC: u64 = 2;
    pub const EXEC: u64 = 4;
    pub const TEXT: u64 = ALLOC | EXEC;
    pub const RODATA: u64 = ALLOC;
    pub const DATA: u64 = ALLOC | WRITE;
}

const SHT_PROGBITS: u32 = 1;
const SHT_SYMTAB: u32 = 2;
const SHT_STRTAB: u32 = 3;
const SHT_NOBITS: u32 = 8;
const PT_LOAD: u32 = 1;

#[derive(Clone)]
struct SectionSpec {
    name: String,
    kind: u32,
    flags: u64,
    address: u64,
    bytes: Vec<u8>,
    /// Differs from the number of bytes in a section without any.
    size: u64,
    link: u32,
    info: u32,
    entry_size: u64,
}

struct SymbolSpec {
    name: String,
    address: u64,
    size: u64,
    kind: char,
}

/// Writes an ELF file: sections in the order they are given, a segment for each that is allocated.
pub struct ElfWriter {
    bits: Bits,
    machine: u16,
    file_type: u16,
    sections: Vec<SectionSpec>,
    symbols: Vec<SymbolSpec>,
    section_headers: bool,
    trailer: Vec<u8>,
}

impl ElfWriter {
    /// An executable x86 file.
    pub fn new(bits: Bits) -> ElfWriter {
        let machine = if bits == Bits::B64 { 62 } else { 3 };
        ElfWriter {
            bits,
            machine,
            file_type: 2,
            sections: Vec::new(),
            symbols: Vec::new(),
            section_headers: true,
            trailer: Vec::new(),
        }
    }

    /// A section with bytes.
    pub fn section(self, name: &str, address: u64, flags: u64, bytes: &[u8]) -> ElfWriter {
        self.push(name, SHT_PROGBITS, address, flags, bytes.to_vec(), bytes.len() as u64)
    }

    /// A section without bytes: `.bss`.
    pub fn nobits(self, name: &str, address: u64, flags: u64, size: u64) -> ElfWriter {
        self.push(name, SHT_NOBITS, address, flags, Vec::new(), size)
    }

    fn push(mut self, name: &str, kind: u32, address: u64, flags: u64, bytes: Vec<u8>, size: u64) -> ElfWriter {
        let name = name.to_owned();
        self.sections.push(SectionSpec { name, kind, flags, address, bytes, size, link: 0, info: 0, entry_size: 0 });
        self
    }

    /// Relocations that the linker left of the section of this number: place, type, number of the symbol, addend.
    pub fn relocations(mut self, section: u32, rows: &[(u64, u32, u32, i64)]) -> ElfWriter {
        let wide = self.bits == Bits::B64;
        let mut bytes = Vec::new();
        for &(place, kind, symbol, addend) in rows {
            if wide {
                let info = u64::from(symbol) << 32 | u64::from(kind);
                [place, info, addend as u64].iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
            } else {
                [place as u32, symbol << 8 | kind].iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
            }
        }
        self = self.push(".rela", if wide { 4 } else { 9 }, 0, 0, bytes.clone(), bytes.len() as u64);
        if let Some(last) = self.sections.last_mut() {
            (last.info, last.entry_size) = (section, if wide { 24 } else { 8 });
        }
        self
    }

    /// A symbol of `.symtab`, its kind as `nm` gives it: upper case is global. Its section is the one that holds `address`.
    pub fn symbol(mut self, name: &str, address: u64, size: u64, kind: char) -> ElfWriter {
        self.symbols.push(SymbolSpec { name: name.to_owned(), address, size, kind });
        self
    }

    /// Another `e_machine`.
    pub fn machine(mut self, machine: u16) -> ElfWriter {
        self.machine = machine;
        self
    }

    /// Another `e_type`.
    pub fn file_type(mut self, file_type: u16) -> ElfWriter {
        self.file_type = file_type;
        self
    }

    /// Leaves the section headers out: only segments remain.
    pub fn without_section_headers(mut self) -> ElfWriter {
        self.section_headers = false;
        self
    }

    /// Bytes behind the ELF file, where a relocatable kernel keeps its relocations.
    pub fn trailer(mut self, bytes: &[u8]) -> ElfWriter {
        self.trailer = bytes.to_vec();
        self
    }

    /// The file.
    pub fn build(&self) -> Vec<u8> {
        let mut sections = self.sections.clone();
        if !self.symbols.is_empty() {
            let (table, names) = self.symbol_table();
            // The null section comes first: the string table's number is its index and one, and one for the table.
            let link = sections.len() as u32 + 2;
            let entry_size = if self.bits == Bits::B64 { 24 } else { 16 };
            sections.push(tool_section(".symtab", SHT_SYMTAB, table, link, entry_size));
            sections.push(tool_section(".strtab", SHT_STRTAB, names, 0, 0));
        }
        let mut names = vec![0];
        let mut name_offsets = Vec::new();
        for name in sections.iter().map(|section| section.name.as_str()).chain([".shstrtab"]) {
            name_offsets.push(names.len() as u32);
            names.extend_from_slice(name.as_bytes());
            names.push(0);
        }
        sections.push(tool_section(".shstrtab", SHT_STRTAB, names, 0, 0));

        let loaded: Vec<usize> = (0..sections.len()).filter(|&i| sections[i].flags & flags::ALLOC != 0).collect();
        let (header_size, program_size) = if self.bits == Bits::B64 { (64, 56) } else { (52, 32) };
        let mut offset = header_size + program_size * loaded.len() as u64;
        let mut offsets = Vec::new();
        let mut body = Vec::new();
        for section in &sections {
            let padding = offset.next_multiple_of(16) - offset;
            body.resize(body.len() + padding as usize, 0);
            offset += padding;
            offsets.push(offset);
            body.extend_from_slice(&section.bytes);
            offset += section.bytes.len() as u64;
        }
        let padding = offset.next_multiple_of(16) - offset;
        body.resize(body.len() + padding as usize, 0);
        let table = offset + padding;

        let mut out = Writer { bits: self.bits, bytes: Vec::new() };
        self.header(&mut out, loaded.len() as u16, table, sections.len() as u16 + 1);
        for &i in &loaded {
            out.program(&sections[i], offsets[i]);
        }
        out.bytes.extend_from_slice(&body);
        if self.section_headers {
            let null = tool_section("", 0, Vec::new(), 0, 0);
            out.section(&null, 0, 0);
            for (i, section) in sections.iter().enumerate() {
                out.section(section, name_offsets[i], offsets[i]);
            }
        }
        out.bytes.extend_from_slice(&self.trailer);
        out.bytes
    }

    fn header(&self, out: &mut Writer, programs: u16, table: u64, sections: u16) {
        let class = if self.bits == Bits::B64 { 2 } else { 1 };
        out.bytes.extend_from_slice(&[0x7f, b'E', b'L', b'F', class, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        out.u16(self.file_type);
        out.u16(self.machine);
        out.u32(1);
        out.word(self.sections.first().map_or(0, |section| section.address));
        let (header_size, program_size, section_size) =
            if self.bits == Bits::B64 { (64, 56, 64) } else { (52, 32, 40) };
        out.word(u64::from(header_size));
        out.word(if self.section_headers { table } else { 0 });
        out.u32(0);
        let sections = if self.section_headers { sections } else { 0 };
        let names = sections.saturating_sub(1);
        for field in [header_size, program_size, programs, section_size, sections, names] {
            out.u16(field);
        }
    }

    fn symbol_table(&self) -> (Vec<u8>, Vec<u8>) {
        let mut table = Writer { bits: self.bits, bytes: vec![0; if self.bits == Bits::B64 { 24 } else { 16 }] };
        let mut names = vec![0];
        for symbol in &self.symbols {
            let name = names.len() as u32;
            names.extend_from_slice(symbol.name.as_bytes());
            names.push(0);
            let holds = |s: &SectionSpec| s.address <= symbol.address && symbol.address - s.address <= s.size;
            let index = match symbol.kind {
                'A' | 'a' => 0xfff1,
                'U' => 0,
                _ => self.sections.iter().position(holds).map_or(0xfff1, |i| i as u16 + 1),
            };
            let bind = match symbol.kind {
                'W' | 'V' => 2,
                kind if kind.is_ascii_uppercase() => 1,
                _ => 0,
            };
            let kind = if matches!(symbol.kind, 'T' | 't' | 'W') { 2 } else { 1 };
            table.u32(name);
            if self.bits == Bits::B64 {
                table.bytes.extend_from_slice(&[bind << 4 | kind, 0]);
                table.u16(index);
                table.word(symbol.address);
                table.word(symbol.size);
            } else {
                table.word(symbol.address);
                table.word(symbol.size);
                table.bytes.extend_from_slice(&[bind << 4 | kind, 0]);
                table.u16(index);
            }
        }
        (table.bytes, names)
    }
}

/// A section that is not in memory.
fn tool_section(name: &str, kind: u32, bytes: Vec<u8>, link: u32, entry_size: u64) -> SectionSpec {
    let size = bytes.len() as u64;
    SectionSpec { name: name.to_owned(), kind, flags: 0, address: 0, bytes, size, link, info: 0, entry_size }
}

struct Writer {
    bits: Bits,
    bytes: Vec<u8>,
}

impl Writer {
    fn u16(&mut self, value: u16) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    fn word(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes()[..self.bits.word()]);
    }

    fn section(&mut self, section: &SectionSpec, name: u32, offset: u64) {
        self.u32(name);
        self.u32(section.kind);
        for field in [section.flags, section.address, offset, section.size] {
            self.word(field);
        }
        self.u32(section.link);
        self.u32(section.info);
        self.word(1);
        self.word(section.entry_size);
    }

    fn program(&mut self, section: &SectionSpec, offset: u64) {
        // PF_R, PF_W, PF_X.
        let has = |flag: u64, bit: u32| if section.flags & flag != 0 { bit } else { 0 };
        let flags = 4 | has(flags::WRITE, 2) | has(flags::EXEC, 1);
        let physical = section.address & 0x3fff_ffff;
        self.u32(PT_LOAD);
        if self.bits == Bits::B64 {
            self.u32(flags);
        }
        for field in [offset, section.address, physical, section.bytes.len() as u64, section.size] {
            self.word(field);
        }
        if self.bits == Bits::B32 {
            self.u32(flags);
        }
        self.word(1);
    }
}
