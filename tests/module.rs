//! Modules: object files are laid out, relocated as the kernel's loader does it, and read like a kernel.
#![allow(clippy::unwrap_used)]

mod elfwriter;

use elfwriter::pack;
use object::write::{Object, Relocation, SectionId, Symbol, SymbolId, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, RelocationFlags, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
};
use pvops::image::{Bits, Compression, Image, KERNEL, StandIn};
use pvops::sites::Tables;

/// An object file under construction.
struct Module {
    object: Object<'static>,
    text: SectionId,
}

const R_X86_64_64: u32 = 1;
const R_X86_64_PC32: u32 = 2;
const R_X86_64_PLT32: u32 = 4;

impl Module {
    /// A function that calls the tracer, `pv_ops+0x100` and returns through a thunk: 17 bytes.
    fn new() -> Module {
        let mut object = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
        let text = object.section_id(object::write::StandardSection::Text);
        object.append_section_data(text, b"\xe8\0\0\0\0\xff\x15\0\0\0\0\x90\xe9\0\0\0\0", 16);
        let mut module = Module { object, text };
        let (tracer, ops, thunk) =
            (module.undefined("__fentry__"), module.undefined("pv_ops"), module.undefined("__x86_return_thunk"));
        module.relocate(text, 1, tracer, R_X86_64_PLT32, -4);
        module.relocate(text, 7, ops, R_X86_64_PC32, 0x100 - 4);
        module.relocate(text, 13, thunk, R_X86_64_PLT32, -4);
        module.symbol("probe", text, 0);
        module.section(".modinfo", b"license=GPL\0vermagic=6.1.0-test SMP mod_unload \0");
        module
    }

    /// With a row for each site.
    fn with_tables() -> Module {
        let mut module = Module::new();
        let text = module.text;
        let probe = module.symbol("probe.start", text, 0);
        let row = [[0; 8].as_slice(), &[32, 6, 1, 0, 0, 0, 0, 0]].concat();
        let paravirt = module.section(".parainstructions", &row);
        module.relocate(paravirt, 0, probe, R_X86_64_64, 5);
        let returns = module.section(".return_sites", &[0; 4]);
        module.relocate(returns, 0, probe, R_X86_64_PC32, 12);
        let mcount = module.section("__mcount_loc", &[0; 8]);
        module.relocate(mcount, 0, probe, R_X86_64_64, 0);
        module
    }

    fn section(&mut self, name: &str, bytes: &[u8]) -> SectionId {
        let id = self.object.add_section(Vec::new(), name.into(), SectionKind::ReadOnlyData);
        self.object.append_section_data(id, bytes, 8);
        id
    }

    fn add(&mut self, name: &str, value: u64, section: SymbolSection) -> SymbolId {
        self.object.add_symbol(Symbol {
            name: name.into(),
            value,
            size: 0,
            kind: SymbolKind::Text,
            scope: SymbolScope::Dynamic,
            weak: false,
            section,
            flags: SymbolFlags::None,
        })
    }

    fn symbol(&mut self, name: &str, section: SectionId, value: u64) -> SymbolId {
        self.add(name, value, SymbolSection::Section(section))
    }

    fn undefined(&mut self, name: &str) -> SymbolId {
        self.add(name, 0, SymbolSection::Undefined)
    }

    fn relocate(&mut self, section: SectionId, offset: u64, symbol: SymbolId, kind: u32, addend: i64) {
        let flags = RelocationFlags::Elf { r_type: object::elf::RelocationType(kind) };
        self.object.add_relocation(section, Relocation { offset, symbol, addend, flags }).unwrap();
    }

    fn build(&self) -> Vec<u8> {
        self.object.write().unwrap()
    }
}

fn opened(bytes: Vec<u8>) -> Image {
    Image::from_bytes("probe.ko", bytes).unwrap()
}

fn call_target(image: &Image, at: u64, len: u64) -> u64 {
    let field = image.read(at + len - 4, 4).unwrap();
    (at + len).wrapping_add(i64::from(i32::from_le_bytes(*field.first_chunk().unwrap())) as u64)
}

#[test]
fn a_module_is_laid_out_and_relocated() {
    let image = opened(Module::new().build());
    assert!(image.is_module());
    assert_eq!((image.bits(), image.release()), (Bits::B64, Some("6.1.0-test")));
    let text = image.section(".text").unwrap();
    assert_eq!(text.address, 0xffff_ffff_c000_0000);
    let symbols = image.symbols().unwrap().unwrap();
    let at = |name: &str| symbols.address_of(name).unwrap();
    assert_eq!(at("probe"), text.address);
    assert_eq!(call_target(&image, text.address, 5), at("__fentry__"));
    assert_eq!(call_target(&image, text.address + 5, 6), at("pv_ops") + 0x100);
    assert_eq!(call_target(&image, text.address + 12, 5), at("__x86_return_thunk"));
    for name in ["__fentry__", "pv_ops", "__x86_return_thunk"] {
        assert_eq!(image.section_at(at(name)).unwrap().name, KERNEL, "{name}");
    }
}

#[test]
fn thunks_stand_in_their_array() {
    let mut module = Module::new();
    let (text, thunk) = (module.text, module.undefined("__x86_indirect_thunk_rdi"));
    module.relocate(text, 1, thunk, R_X86_64_PLT32, -4);
    let image = opened(module.build());
    let symbols = image.symbols().unwrap().unwrap();
    let array = symbols.address_of("__x86_indirect_thunk_array").unwrap();
    assert_eq!(symbols.address_of("__x86_indirect_thunk_rdi"), Some(array + 7 * 32));
    assert_eq!(symbols.address_of("__x86_indirect_thunk_r15"), Some(array + 15 * 32));
}

#[test]
fn its_tables_are_read() {
    let image = opened(Module::with_tables().build());
    let tables = Tables::read(&image).unwrap();
    let text = image.section(".text").unwrap().address;
    let paravirt = tables.paravirt.unwrap();
    assert_eq!((paravirt.sites[0].address, paravirt.sites[0].op_type), (text + 5, 32));
    assert_eq!(tables.returns.sites, [text + 12]);
    assert_eq!(tables.mcount, [text]);
}

#[test]
fn every_compression_a_distribution_packs_modules_with() {
    let object = Module::with_tables().build();
    for kind in [Compression::Xz, Compression::Gzip, Compression::Zstd] {
        let image = opened(pack::compress(kind, &object));
        assert!(image.is_module(), "{kind}");
        assert_eq!(image.release(), Some("6.1.0-test"));
    }
}

#[test]
fn what_is_known_of_its_kernel_has_names_and_contents() {
    let pointers = vec![Some("native_save_fl".to_owned()), None, Some("probe_of_the_kernel".to_owned())];
    let kernel = StandIn { names: vec!["paravirt_BUG".to_owned()], arrays: vec![("pv_ops".to_owned(), pointers)] };
    let image = opened(Module::new().build()).linked_to(&kernel).unwrap();
    let symbols = image.symbols().unwrap().unwrap();
    let at = |name: &str| symbols.address_of(name).unwrap();
    let ops = at("pv_ops");
    assert_eq!(image.read_word(ops), Some(at("native_save_fl")));
    assert_eq!(image.read_word(ops + 8), Some(0));
    assert_eq!(image.read_word(ops + 16), Some(at("probe_of_the_kernel")));
    assert!(image.section_at(at("paravirt_BUG")).is_some());
    assert_eq!(call_target(&image, image.section(".text").unwrap().address + 5, 6), ops + 0x100);
}

#[test]
fn relocations_that_lie_are_refused() {
    let refused = |change: &dyn Fn(&mut Module)| {
        let mut module = Module::new();
        change(&mut module);
        Image::from_bytes("probe.ko", module.build()).unwrap_err().to_string()
    };
    let error = refused(&|module| {
        let (text, symbol) = (module.text, module.undefined("x"));
        module.relocate(text, 15, symbol, R_X86_64_PC32, 0);
    });
    assert_eq!(error, "probe.ko: .rela.text row 3 (0xffffffffc000000f): 4 bytes leave the section");
    let error = refused(&|module| {
        let (text, symbol) = (module.text, module.undefined("x"));
        module.relocate(text, 0, symbol, 9, 0);
    });
    assert!(error.contains("is of type 9, which the kernel's loader does not know either"), "{error}");
}

#[test]
fn what_header_0_says_is_no_symbol_table() {
    let mut object = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
    let text = object.section_id(object::write::StandardSection::Text);
    let mut module = Module { object, text };
    module.section(".modinfo", b"vermagic=6.1.0-test SMP mod_unload \0");
    let mut bytes = module.build();
    let headers = u64::from_le_bytes(*bytes[0x28..].first_chunk().unwrap()) as usize;
    bytes[headers + 4] = 2; // SHT_SYMTAB
    assert_eq!(opened(bytes).release(), Some("6.1.0-test"));
}

#[test]
fn mutated_modules() {
    let seed = Module::with_tables().build();
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let start = std::time::Instant::now();
    let mut runs = 0;
    while start.elapsed() < std::time::Duration::from_secs(1) {
        let mut bytes = seed.clone();
        for _ in 0..=next() % 4 {
            let at = next() % bytes.len();
            let value = [0, 1, 0xff, 0x7f, 0x80, next() as u64, u64::MAX, seed.len() as u64][next() % 8].to_le_bytes();
            let width = [1, 2, 4, 8][next() % 4].min(bytes.len() - at);
            bytes[at..at + width].copy_from_slice(&value[..width]);
        }
        if next() % 8 == 0 {
            bytes.truncate(next() % seed.len());
        }
        pvops::image::exercise::open(&bytes);
        pvops::sites::exercise::table(&bytes);
        runs += 1;
    }
    assert!(runs > 100, "only {runs} runs: something takes far too long");
}
