//! Constants of modules in memory: held to the file with its relocations, where the kernel's loader put them.
#![allow(clippy::unwrap_used)]

mod elfwriter;
mod memory_support;

use std::sync::Arc;

use elfwriter::{ElfWriter, flags};
use memory_support::{NOTES, RODATA, RODATA_SIZE, Recipe, TEXT, TEXT_SIZE, read_from};
use object::write::{Object, Relocation, SectionId, Symbol, SymbolId, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, RelocationFlags, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
};
use pvops::Result;
use pvops::image::{Bits, Blocks, Image};
use pvops::memory::{LoadedModule, Memory, Reader};
use pvops::verify::{Modules, Rodata};

const SLIDE: u64 = 0x1240_0000;
/// What the module uses of the kernel, and where its own memory is.
const FUNCTION: u64 = TEXT + 0x1000;
const CODE: u64 = 0xffff_ffff_c000_0000;
const CONSTANTS: u64 = 0xffff_ffff_c010_0000;
const DATA: u64 = 0xffff_ffff_c020_0000;
const PAGE: usize = 4096;

const R_X86_64_64: u32 = 1;
const R_X86_64_PC32: u32 = 2;

struct Writer(Object<'static>);

impl Writer {
    fn section(&mut self, name: &str, kind: SectionKind, bytes: &[u8]) -> SectionId {
        let id = self.0.add_section(Vec::new(), name.into(), kind);
        self.0.append_section_data(id, bytes, 8);
        id
    }

    fn symbol(&mut self, name: &str, section: SymbolSection) -> SymbolId {
        let (kind, scope, flags) = (SymbolKind::Text, SymbolScope::Dynamic, SymbolFlags::None);
        self.0.add_symbol(Symbol { name: name.into(), value: 0, size: 0, kind, scope, weak: false, section, flags })
    }

    fn relocate(&mut self, section: SectionId, offset: u64, symbol: SymbolId, kind: u32) {
        let flags = RelocationFlags::Elf { r_type: object::elf::RelocationType(kind) };
        self.0.add_relocation(section, Relocation { offset, symbol, addend: 0, flags }).unwrap();
    }
}

/// A table of a number, a function of the module's, one of the kernel's, and one that is freed; a symbol that it exports.
fn module() -> Image {
    let mut w = Writer(Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little));
    let text = w.section(".text", SectionKind::Text, &[0xc3; 16]);
    let init = w.section(".init.text", SectionKind::Text, &[0xc3; 16]);
    let table = w.section(".rodata", SectionKind::ReadOnlyData, &[7, 0, 0, 0, 0, 0, 0, 0].repeat(4));
    let exported = w.section("__ksymtab", SectionKind::ReadOnlyData, &[0; 8]);
    w.section(".orc_unwind", SectionKind::ReadOnlyData, &[1; 8]);
    w.section(".data", SectionKind::Data, &[9; 8]);
    w.section(".gnu.linkonce.this_module", SectionKind::Data, &[0; 64]);
    w.section(".modinfo", SectionKind::ReadOnlyData, b"name=probe\0vermagic=6.1.0-test SMP mod_unload \0");
    let own = w.symbol("probe", SymbolSection::Section(text));
    let freed = w.symbol("probe_init", SymbolSection::Section(init));
    let other = w.symbol("a_function", SymbolSection::Undefined);
    for (offset, symbol) in [(8, own), (16, other), (24, freed)] {
        w.relocate(table, offset, symbol, R_X86_64_64);
    }
    w.relocate(exported, 0, own, R_X86_64_PC32);
    Image::from_bytes("probe.ko", w.0.write().unwrap()).unwrap()
}

fn kernel(recipe: &Recipe) -> Image {
    let linked = recipe.linked();
    let trailer: Vec<u8> = recipe.lists().iter().flat_map(|word| word.to_le_bytes()).collect();
    let writer = ElfWriter::new(Bits::B64)
        .section(".text", TEXT, flags::TEXT, &linked[..TEXT_SIZE])
        .section(".rodata", TEXT + RODATA, flags::RODATA, &linked[RODATA as usize..][..RODATA_SIZE])
        .section(".notes", TEXT + NOTES, flags::RODATA, &linked[NOTES as usize..])
        .symbol("a_function", FUNCTION, 0, 'T');
    Image::from_bytes("vmlinux", writer.trailer(&trailer).build()).unwrap()
}

/// Virtual memory in pieces.
struct Pieces(Vec<(u64, Vec<u8>)>);

impl Reader for Pieces {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result<bool> {
        let pieces: Vec<_> = self.0.iter().map(|(start, bytes)| (*start, &bytes[..])).collect();
        Ok(read_from(&pieces, address, buffer))
    }
}

/// The constants of a machine that has the module, with some words of them changed: by where they are in the block.
fn judged(changes: &[(usize, u64)], there: bool) -> Rodata {
    let recipe = Recipe::new(Bits::B64);
    let mut constants = vec![0; PAGE];
    let words = [7, CODE, FUNCTION + SLIDE, 0xdead_beef, CODE.wrapping_sub(CONSTANTS + 32) & 0xffff_ffff];
    // What the loader sorts is not as in the file.
    for (at, word) in words.into_iter().chain([0x0202_0202]).enumerate().map(|(i, word)| (8 * i, word)) {
        constants[at..at + 8].copy_from_slice(&u64::to_le_bytes(word));
    }
    for &(at, word) in changes {
        constants[at..at + 8].copy_from_slice(&word.to_le_bytes());
    }
    let mut pieces = vec![(TEXT + SLIDE, recipe.moved(SLIDE)), (CODE, vec![0; PAGE]), (DATA, vec![0; PAGE])];
    pieces.extend(there.then_some((CONSTANTS, constants)));
    let (kernel, memory) = (kernel(&recipe), Memory::from_reader("<read>", Box::new(Pieces(pieces))));
    let found = memory.find(&kernel, &mut |_, _| Ok(())).unwrap();
    assert_eq!(found.slide, SLIDE);
    let blocks = Blocks::Apart { text: CODE, rodata: CONSTANTS, ro_after_init: DATA + 0x10_0000, data: DATA };
    let (name, text) = ("probe".to_owned(), (CODE, PAGE as u64));
    let loaded = LoadedModule { name, address: DATA + 8, live: true, text, size: 0x3000, blocks, percpu: None };
    let modules = Modules { loaded: vec![loaded] };
    let linked = modules.link(&[Arc::new(module())], &memory, &found, &kernel).unwrap();
    linked[0].constants().clone()
}

#[test]
fn constants_are_as_in_the_file_once_they_are_relocated() {
    let found = judged(&[], true);
    assert_eq!((found.size, found.wrong, found.changed.len(), found.unread.len()), (40, 0, 0, 0));
    // A function that was freed may be anything; and what the loader sorts is not held to the file.
    assert_eq!(judged(&[(24, 0x1234), (40, 0x1234)], true).wrong, 0);
}

#[test]
fn each_constant_that_was_changed_is_named() {
    let built = [7, CODE, FUNCTION + SLIDE];
    for (at, word) in [(0, 8), (8, CODE + 4), (16, FUNCTION + SLIDE + 0x20), (16, FUNCTION), (8, DATA)] {
        let found = judged(&[(at, word)], true);
        let [run] = &found.changed[..] else { panic!("{at} {word:#x}: {:?}", found.changed) };
        let first = run.address.wrapping_add(SLIDE).wrapping_sub(CONSTANTS) as usize;
        let (expected, is) = (built[at / 8].to_le_bytes(), word.to_le_bytes());
        assert!((at..at + 8).contains(&first), "{at} {word:#x}");
        let within = first - at..first - at + run.found.len();
        assert_eq!((&run.expected[..], &run.found[..]), (&expected[within.clone()], &is[within]), "{at} {word:#x}");
    }
    // Where a symbol is that the module exports.
    assert_eq!(judged(&[(32, 0)], true).changed.len(), 1);
}

#[test]
fn constants_that_are_not_in_memory_are_unread() {
    let found = judged(&[], false);
    let gaps: u64 = found.unread.iter().map(|gap| gap.end - gap.start).sum();
    assert_eq!((found.wrong, gaps), (0, 40));
}
