//! Kernel modules: an object file, laid out and relocated as the kernel would (`kernel/module/main.c`:
//! `layout_sections()`, `apply_relocations()`), but at addresses of our own.
//!
//! | what | x86-64 | i386 |
//! |---|---|---|
//! | the module's sections, in file order | from `0xffffffffc0000000` | from `0xf8000000` |
//! | symbols of the kernel's, 4 KiB each, section `.kernel` | from `0xffffffffd0000000` | from `0xfa000000` |
//!
//! The result is an ELF file like a kernel's, so that everything that reads an image reads a module. Bounds of tables that
//! a kernel's linker script names (`__start___jump_table`) are named here, and the thunks of the kernel's stand in the
//! array that they stand in there. What the kernel holds is not known from a module; what its `pv_ops` does is taken from
//! [`StandIn`], where somebody who knows says so.

use std::collections::HashMap;

use object::LittleEndian as LE;
use object::elf;
use object::read::elf::{FileHeader, Rel, Rela, SectionHeader, Sym};

use super::elf::header_error;
use super::placed::{self, Placement, Put};
use super::relocations::{Relocation, RelocationKind};
use super::{Bits, LOWEST_KERNEL};
use crate::error::{Error, Result};

/// The section that stands for the kernel.
pub const KERNEL: &str = ".kernel";
/// What each symbol of the kernel's gets: more than any structure whose members modules address.
const ROOM: u64 = 4096;
/// More memory than any module takes.
pub(super) const MAX_SIZE: u64 = 256 << 20;
/// A section aligned to more than this is a slip.
const MAX_ALIGN: u64 = 2 << 20;
/// Numbers of sections from `SHN_LORESERVE`, 0xff00, on mean something else; there is room for what is added.
const MAX_SECTIONS: usize = 0xfe00;
/// Numbers of the registers in `__x86_indirect_thunk_array`, which is in this order.
const THUNKS: [&str; 16] =
    ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"];
const THUNK_SIZE: u64 = 32;
/// Tables whose bounds the kernel's linker script names: section, then what stands between `__start_` or `__stop_` and
/// the end.
const BOUNDED: [(&str, &str); 3] =
    [("__jump_table", "__jump_table"), ("__mcount_loc", "mcount_loc"), (".static_call_sites", "static_call_sites")];

/// What is known of the kernel that a module is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StandIn {
    /// Names of functions and data that the module does not use itself, but its patching does.
    pub names: Vec<String>,
    /// Arrays of pointers: their name, and the function that each pointer is to.
    pub arrays: Vec<(String, Vec<Option<String>>)>,
}

/// Whether this is an object file.
pub(super) fn is_object(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x7fELF") && bytes.get(16..18) == Some(&[1, 0])
}

/// What a module is linked to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target<'p> {
    /// A kernel that is not there: what is known of it.
    StandIn(&'p StandIn),
    /// A kernel in memory.
    Memory(&'p Placement<'p>),
}

/// A linked module.
pub(super) struct Linked {
    /// An ELF file like a kernel's.
    pub file: Vec<u8>,
    /// How many bytes of code stay loaded, in whole pages; where the module's place is known.
    pub code: u64,
    /// What relocation left in code.
    pub fields: Fields,
}

/// Fields of code that hold what depends on where the module and the kernel are.
#[derive(Debug, Default)]
pub(super) struct Fields {
    /// They change with the slide.
    pub moving: Vec<Relocation>,
    /// They refer to what was freed: address, width.
    pub unknown: Vec<(u64, u64)>,
}

/// Lays out and relocates a module.
pub(super) fn link(bytes: &[u8], bits: Bits, target: Target<'_>) -> Result<Linked> {
    match bits {
        Bits::B32 => link_class::<elf::FileHeader32<LE>>(bytes, bits, target),
        Bits::B64 => link_class::<elf::FileHeader64<LE>>(bytes, bits, target),
    }
}

fn refuse(reason: impl Into<String>) -> Error {
    header_error(reason.into())
}

/// Where everything is put.
struct Layout {
    bits: Bits,
    /// Of each section header; `None` where it is not in memory.
    sections: Vec<Option<Put>>,
    /// The kernel's symbols.
    kernel: HashMap<Vec<u8>, u64>,
    next: u64,
}

/// What a symbol stands for.
#[derive(Debug, Clone, Copy)]
struct Value {
    address: u64,
    /// It moves with the kernel.
    moves: bool,
    /// Nobody knows it any more.
    gone: bool,
}

impl Layout {
    fn new(bits: Bits) -> Layout {
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
    fn placed(bits: Bits, sections: Vec<Option<Put>>) -> Layout {
        Layout { bits, sections, kernel: HashMap::new(), next: kernel_base(bits) }
    }

    /// The address of a symbol of the kernel's.
    fn of_kernel(&mut self, name: &[u8]) -> u64 {
        let next = &mut self.next;
        *self.kernel.entry(name.to_vec()).or_insert_with(|| std::mem::replace(next, *next + ROOM))
    }
}

fn kernel_base(bits: Bits) -> u64 {
    match bits {
        Bits::B64 => 0xffff_ffff_d000_0000,
        Bits::B32 => 0xfa00_0000,
    }
}

/// A symbol of the new table.
struct Symbol {
    name: Vec<u8>,
    address: u64,
    size: u64,
    info: u8,
    section: u16,
}

/// Lays sections out one behind the other.
fn in_a_row<H: FileHeader<Endian = LE>>(
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
            return Err(refuse(format!("a section is aligned to {align:#x}")));
        }
        next = next.next_multiple_of(align);
        sections.push(Some(Put { address: next, moves: true, gone: false }));
        next = next.checked_add(size).filter(|&end| end <= limit).ok_or_else(|| refuse("is too large for a module"))?;
    }
    Ok(sections)
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
                info: symbol.st_info().0,
                section,
            });
        }
    }
    let mut out = bytes.to_vec();
    let mut fields = Fields::default();
    for section in table.iter() {
        relocate::<H>(bytes, section, &table, &layout, &values, &mut out, &mut fields)?;
    }
    for (name, table_name) in BOUNDED {
        let found = table.section_by_name(LE, name.as_bytes());
        if let Some((index, section)) = found
            && let Some(Some(put)) = layout.sections.get(index.0)
        {
            let end = put.address.wrapping_add(section.sh_size(LE).into());
            for (prefix, address) in [("__start_", put.address), ("__stop_", end)] {
                let name = format!("{prefix}{table_name}").into_bytes();
                listed.push(Symbol { name, address, size: 0, info: 0x11, section: index.0 as u16 });
            }
        }
    }
    let nothing = StandIn::default();
    let (kernel, others) = match target {
        Target::StandIn(kernel) => (kernel, &[][..]),
        Target::Memory(place) => (&nothing, place.others),
    };
    let file = Writer { out, bits, layout, symbols: listed }.finish::<H>(&table, kernel, others)?;
    Ok(Linked { file, code, fields })
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

/// Applies the relocations of one section of them.
fn relocate<H: FileHeader<Endian = LE>>(
    bytes: &[u8],
    section: &H::SectionHeader,
    table: &object::read::elf::SectionTable<'_, H>,
    layout: &Layout,
    values: &[Value],
    out: &mut [u8],
    fields: &mut Fields,
) -> Result<()> {
    let target = section.sh_info(LE) as usize;
    let Some(Some(put)) = layout.sections.get(target).copied() else { return Ok(()) };
    let start = put.address;
    let Ok(into) = table.section(object::SectionIndex(target)) else { return Ok(()) };
    let name = table.section_name(LE, into).map(|name| String::from_utf8_lossy(name).into_owned()).unwrap_or_default();
    let (offset, size): (u64, u64) = (into.sh_offset(LE).into(), into.sh_size(LE).into());
    let bits_present = into.sh_type(LE) != elf::SHT_NOBITS;
    let code = into.sh_flags(LE).0 & elf::SHF_EXECINSTR.0 != 0;
    let malformed = |error: object::read::Error| refuse(error.to_string()).in_section(&name);
    let mut apply = |row: usize, at: u64, symbol: usize, kind: u32, addend: Option<i64>| -> Result<()> {
        let refuse = |reason: String| {
            Err(Error::image(reason).in_section(&format!(".rela{name}")).at_row(row).at_address(start.wrapping_add(at)))
        };
        let Some(&value) = values.get(symbol) else {
            return refuse(format!("names symbol {symbol}, which there is not"));
        };
        let Some((width, relative)) = field(layout.bits, kind) else {
            return refuse(format!("is of type {kind}, which the kernel's loader does not know either"));
        };
        if width == 0 {
            return Ok(());
        }
        let place = bits_present.then(|| at.checked_add(width).filter(|&end| end <= size)).flatten();
        let held = place
            .and_then(|_| out.get_mut(usize::try_from(offset.checked_add(at)?).ok()?..)?.get_mut(..width as usize));
        let Some(held) = held else { return refuse(format!("{width} bytes leave the section")) };
        let in_place = held.first_chunk().map_or(0, |&word| i64::from(i32::from_le_bytes(word)));
        let mut sum = value.address.wrapping_add(addend.unwrap_or(in_place) as u64);
        let address = start.wrapping_add(at);
        if relative {
            sum = sum.wrapping_sub(address);
        }
        if code && value.gone && !put.gone {
            fields.unknown.push((address, width));
        }
        let kind = match (width, relative, value.moves) {
            (8, false, true) => Some(RelocationKind::Word64),
            (4, false, true) => Some(RelocationKind::Word32),
            (4, true, false) => Some(RelocationKind::Inverse32),
            _ => None,
        };
        fields.moving.extend(kind.filter(|_| code).map(|kind| Relocation { address, kind }));
        held.copy_from_slice(&sum.to_le_bytes()[..width as usize]);
        Ok(())
    };
    if let Some((rows, _)) = section.rela(LE, bytes).map_err(malformed)? {
        for (row, rela) in rows.iter().enumerate() {
            let symbol = rela.r_sym(LE, false) as usize;
            apply(row, rela.r_offset(LE).into(), symbol, rela.r_type(LE, false).0, Some(rela.r_addend(LE).into()))?;
        }
    }
    if let Some((rows, _)) = section.rel(LE, bytes).map_err(malformed)? {
        for (row, rel) in rows.iter().enumerate() {
            apply(row, rel.r_offset(LE).into(), rel.r_sym(LE) as usize, rel.r_type(LE).0, None)?;
        }
    }
    Ok(())
}

/// Width of the field that a type of relocation changes, and whether it holds a distance (`apply_relocate_add()` of
/// `arch/x86/kernel/module.c`).
fn field(bits: Bits, kind: u32) -> Option<(u64, bool)> {
    match (bits, kind) {
        (_, 0) => Some((0, false)),
        (Bits::B64, 1) => Some((8, false)),
        (Bits::B64, 2 | 4) => Some((4, true)),
        (Bits::B64, 10 | 11) => Some((4, false)),
        (Bits::B64, 24) => Some((8, true)),
        (Bits::B32, 1) => Some((4, false)),
        (Bits::B32, 2 | 4) => Some((4, true)),
        _ => None,
    }
}

/// Writes the linked file: the module's bytes, then what is new.
struct Writer {
    out: Vec<u8>,
    bits: Bits,
    layout: Layout,
    symbols: Vec<Symbol>,
}

impl Writer {
    fn finish<H: FileHeader<Endian = LE>>(
        mut self,
        table: &object::read::elf::SectionTable<'_, H>,
        kernel: &StandIn,
        others: &[(u64, u64)],
    ) -> Result<Vec<u8>> {
        let word = self.bits.word();
        for name in &kernel.names {
            self.layout.of_kernel(name.as_bytes());
        }
        // Arrays first: the section that stands for the kernel has bytes as far as they reach.
        let mut contents = Vec::new();
        for (name, functions) in &kernel.arrays {
            let at = self.layout.of_kernel(name.as_bytes());
            let pointers = functions.iter().map(|f| f.as_ref().map_or(0, |f| self.layout.of_kernel(f.as_bytes())));
            contents.push((at, pointers.collect::<Vec<u64>>()));
        }
        let base = kernel_base(self.bits);
        let size = self.layout.next - base;
        if size > MAX_SIZE {
            return Err(refuse("names too many symbols of the kernel"));
        }
        let data_end =
            contents.iter().map(|(at, pointers)| at - base + (pointers.len() * word) as u64).max().unwrap_or(0);
        let mut data = vec![0; usize::try_from(data_end).unwrap_or(0)];
        for (at, pointers) in contents {
            for (i, pointer) in pointers.iter().enumerate() {
                let place = (at - base) as usize + i * word;
                data[place..place + word].copy_from_slice(&pointer.to_le_bytes()[..word]);
            }
        }
        let stand_in = table.len() as u16;
        let mut names: Vec<(Vec<u8>, u64)> = std::mem::take(&mut self.layout.kernel).into_iter().collect();
        names.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
        self.symbols.extend(names.into_iter().map(|(name, address)| Symbol {
            name,
            address,
            size: 0,
            info: 0x10,
            section: if address - base < data_end { stand_in } else { stand_in + 1 },
        }));

        let data_at = self.append(&data);
        let (symbols, strings) = self.symbol_table();
        let (symbols_at, strings_at) = (self.append(&symbols), self.append(&strings));
        let mut section_names = Vec::new();
        let mut headers: Vec<[u64; 10]> = Vec::new();
        for (index, section) in table.iter().enumerate() {
            let name = table.section_name(LE, section).map_err(|error| refuse(error.to_string()))?;
            let put = self.layout.sections.get(index).copied().flatten();
            let flags: u64 = section.sh_flags(LE).0;
            let mut fields: [u64; 10] = [
                section_names.len() as u64,
                section.sh_type(LE).0.into(),
                // The loader does not keep all that says it is to be kept.
                if put.is_some() { flags } else { flags & !elf::SHF_ALLOC.0 },
                put.map_or(0, |put| put.address),
                section.sh_offset(LE).into(),
                section.sh_size(LE).into(),
                section.sh_link(LE).into(),
                section.sh_info(LE).into(),
                section.sh_addralign(LE).into(),
                section.sh_entsize(LE).into(),
            ];
            if section.sh_type(LE) == elf::SHT_SYMTAB {
                (fields[4], fields[5], fields[6]) = (symbols_at, symbols.len() as u64, u64::from(stand_in) + 2);
                (fields[7], fields[9]) = (1, if word == 8 { 24 } else { 16 });
            }
            section_names.extend_from_slice(name);
            section_names.push(0);
            headers.push(fields);
        }
        let mut add = |name: &str, kind: u64, flags: u64, address: u64, at: u64, size: u64| {
            headers.push([section_names.len() as u64, kind, flags, address, at, size, 0, 0, 1, 0]);
            section_names.extend_from_slice(name.as_bytes());
            section_names.push(0);
        };
        add(KERNEL, 1, 3, base, data_at, data_end);
        add(KERNEL, 8, 3, base + data_end, data_at, size - data_end);
        add(".strtab", 3, 0, 0, strings_at, strings.len() as u64);
        for &(start, size) in others {
            add(KERNEL, 8, 3, start, 0, size);
        }
        if headers.len() > MAX_SECTIONS {
            return Err(refuse("has too many sections, its own and those of the modules it uses"));
        }
        let names_at = self.out.len().next_multiple_of(8) as u64;
        headers.push([section_names.len() as u64, 3, 0, 0, names_at, section_names.len() as u64 + 10, 0, 0, 1, 0]);
        section_names.extend_from_slice(b".shstrtab\0");
        self.append(&section_names);
        self.write_headers(&headers);

        Ok(self.out)
    }

    /// Appends bytes, aligned; where they begin.
    fn append(&mut self, bytes: &[u8]) -> u64 {
        self.out.resize(self.out.len().next_multiple_of(8), 0);
        let at = self.out.len() as u64;
        self.out.extend_from_slice(bytes);
        at
    }

    fn symbol_table(&self) -> (Vec<u8>, Vec<u8>) {
        let wide = self.bits == Bits::B64;
        let (mut rows, mut strings) = (vec![0; if wide { 24 } else { 16 }], vec![0]);
        for symbol in &self.symbols {
            rows.extend_from_slice(&(strings.len() as u32).to_le_bytes());
            strings.extend_from_slice(&symbol.name);
            strings.push(0);
            let kind = [symbol.info, 0];
            let section = symbol.section.to_le_bytes();
            let (address, size) = (symbol.address.to_le_bytes(), symbol.size.to_le_bytes());
            if wide {
                [&kind[..], &section, &address, &size].iter().for_each(|part| rows.extend_from_slice(part));
            } else {
                [&address[..4], &size[..4], &kind, &section].iter().for_each(|part| rows.extend_from_slice(part));
            }
        }
        (rows, strings)
    }

    /// Writes the table of sections, and the file's header: an executable without segments.
    fn write_headers(&mut self, headers: &[[u64; 10]]) {
        let wide = self.bits == Bits::B64;
        let word = self.bits.word();
        let mut rows = Vec::new();
        for fields in headers {
            for (i, field) in fields.iter().enumerate() {
                let width = if matches!(i, 0 | 1 | 6 | 7) { 4 } else { word };
                rows.extend_from_slice(&field.to_le_bytes()[..width]);
            }
        }
        let at = self.append(&rows);
        let (offset, count) = if wide { (0x28, 0x3c) } else { (0x20, 0x30) };
        self.out[16..18].copy_from_slice(&[2, 0]);
        self.out[offset..offset + word].copy_from_slice(&at.to_le_bytes()[..word]);
        let programs = if wide { 0x38 } else { 0x2c };
        self.out[programs..programs + 2].fill(0);
        self.out[count..count + 2].copy_from_slice(&(headers.len() as u16).to_le_bytes());
        self.out[count + 2..count + 4].copy_from_slice(&(headers.len() as u16 - 1).to_le_bytes());
    }
}
