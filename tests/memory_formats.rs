//! Every format of a dump gives the same memory; what a format does not have is unread; what is malformed is an error that
//! says where.
#![allow(clippy::unwrap_used)]

mod elfwriter;
mod memory_support;

use std::path::{Path, PathBuf};

use elfwriter::dump::CoreWriter;
use elfwriter::hypervisors::{vmware_state, xen_core};
use elfwriter::packed::{KdumpWriter, Packing, avml, flattened};
use elfwriter::{ElfWriter, flags};
use memory_support::{IMAGE_SIZE, MEMORY, RODATA, RODATA_SIZE, Recipe, TEXT, TEXT_SIZE, map};
use pvops::image::{Bits, Image};
use pvops::memory::{LinkedBytes, Location, Mapped, Memory, MemoryKind};

const SLIDE: u64 = 0x1240_0000;
const PHYSICAL: u64 = 0x40_0000;
/// The page of `.text` that tests leave out.
const PAGE: usize = PHYSICAL as usize / 4096 + 3;

fn text_of(memory: &Memory, image: &Image) -> (Location, LinkedBytes) {
    let found = memory.find(image, &mut |_, _| Ok(())).unwrap();
    let text = image.section(".text").unwrap();
    let held = found.read(memory, image, text.address..text.end()).unwrap();
    (found, held)
}

fn opened(bytes: Vec<u8>) -> Memory {
    Memory::from_bytes("dump", bytes).unwrap()
}

/// That the kernel of a recipe is found whole.
fn is_found(memory: &Memory, recipe: &Recipe) -> Location {
    let (found, held) = text_of(memory, &recipe.image());
    assert_eq!((found.slide, found.physical), (SLIDE, Some(PHYSICAL)), "{memory:?}");
    assert!(held.bytes == recipe.linked()[..TEXT_SIZE] && held.unread.is_empty(), "{memory:?}: {:?}", held.unread);
    found
}

/// What is wrong with a dump, found when it is opened, searched or read.
fn refused(bytes: Vec<u8>) -> String {
    let image = Recipe::new(Bits::B64).image();
    let error = Memory::from_bytes("dump", bytes).and_then(|memory| {
        let found = memory.find(&image, &mut |_, _| Ok(()))?;
        let text = image.section(".text").unwrap();
        found.read(&memory, &image, text.address..text.end())
    });
    match error {
        Ok(held) => panic!("read: {} bytes, {:?}", held.bytes.len(), held.unread),
        Err(error) => error.to_string(),
    }
}

/// A folder of one test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("pvops-formats-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

// kdump

#[test]
fn pages_packed_in_every_way() {
    let recipe = Recipe::new(Bits::B64);
    let memory = recipe.memory(PHYSICAL, SLIDE);
    for packing in Packing::ALL {
        let dump = KdumpWriter::new(&memory, packing).build();
        let flags = u32::from_le_bytes(*dump[4 * 4096 + 24 * PAGE + 12..].first_chunk().unwrap());
        assert_eq!(flags == 0, packing == Packing::None, "the kernel's pages are packed");
        let dump = opened(dump);
        assert_eq!((dump.kind(), dump.physical().size()), (MemoryKind::Kdump, MEMORY as u64));
        is_found(&dump, &recipe);
    }
}

#[test]
fn headers_of_every_version_and_both_widths() {
    for (bits, version) in
        [Bits::B64, Bits::B32].into_iter().flat_map(|bits| (1..=6).map(move |version| (bits, version)))
    {
        let recipe = Recipe::new(bits);
        let writer = KdumpWriter::new(&recipe.memory(PHYSICAL, SLIDE), Packing::Zlib).version(version);
        let writer = if bits == Bits::B32 { writer.narrow() } else { writer };
        let told = format!("KERNELOFFSET={SLIDE:x}\n");
        let dump = opened(writer.vmcoreinfo(&told).build());
        let found = is_found(&dump, &recipe);
        let says = found.how.contains(&"VMCOREINFO says the same".to_owned());
        assert_eq!(says, version >= 3, "version {version}: {:?}", found.how);
    }
    let recipe = Recipe::new(Bits::B64);
    let writer = KdumpWriter::new(&recipe.memory(PHYSICAL, SLIDE), Packing::Zlib);
    is_found(&opened(writer.clone().diskdump().build()), &recipe);
    is_found(&opened(writer.one_bitmap().build()), &recipe);
}

#[test]
fn cpus_of_the_notes_of_a_kdump_are_heard() {
    let recipe = Recipe::new(Bits::B64);
    let mut memory = recipe.memory(PHYSICAL, SLIDE);
    memory[0x20_0000..][..IMAGE_SIZE].copy_from_slice(&recipe.linked());
    map(&mut memory, 0x1000, TEXT + SLIDE, PHYSICAL);
    let notes = CoreWriter::new(Bits::B64).cpu(0x1000, 0x20).note_bytes().to_vec();
    let found = is_found(&opened(KdumpWriter::new(&memory, Packing::Snappy).notes(&notes).build()), &recipe);
    assert!(found.how.contains(&"the page tables of CPU 0 map it there".to_owned()), "{:?}", found.how);
}

#[test]
fn pages_that_were_left_out_or_never_written_are_unread() {
    let recipe = Recipe::new(Bits::B64);
    let memory = recipe.memory(PHYSICAL, SLIDE);
    let writer = KdumpWriter::new(&memory, Packing::Lzo);
    let gap = TEXT + 0x3000..TEXT + 0x5000;
    for writer in [writer.clone().left_out(PAGE..PAGE + 2), writer.never_written(PAGE..PAGE + 2)] {
        let dump = writer.build();
        for dump in [flattened(&dump, 5000), dump] {
            let (found, held) = text_of(&opened(dump), &recipe.image());
            assert_eq!((found.slide, &held.unread), (SLIDE, &vec![gap.clone()]));
            assert!(held.bytes[..0x3000] == recipe.linked()[..0x3000]);
            assert!(held.bytes[0x5000..] == recipe.linked()[0x5000..TEXT_SIZE]);
        }
    }
}

#[test]
fn a_flattened_dump_is_put_in_order() {
    let recipe = Recipe::new(Bits::B64);
    let memory = recipe.memory(PHYSICAL, SLIDE);
    let kdump = KdumpWriter::new(&memory, Packing::Zstd).build();
    let core = CoreWriter::new(Bits::B64).physical(0, &memory).build();
    for (kind, dump) in [(MemoryKind::Kdump, &kdump), (MemoryKind::ElfCore, &core)] {
        for piece in [4096, 10_007, 1 << 24] {
            let dump = opened(flattened(dump, piece));
            assert_eq!(dump.kind(), kind);
            is_found(&dump, &recipe);
        }
    }
}

#[test]
fn the_parts_of_a_split_dump_are_one() {
    let recipe = Recipe::new(Bits::B64);
    let writer = KdumpWriter::new(&recipe.memory(PHYSICAL, SLIDE), Packing::Zlib);
    let folder = Folder::new("split");
    // makedumpfile shares out by stretches of its own: the last two of five have none.
    let (some, all) = (PAGE + 1, MEMORY / 4096);
    let parts = [0..PAGE, PAGE..some, some..all, all..all, all..all];
    let files: Vec<PathBuf> = parts
        .iter()
        .enumerate()
        .map(|(i, part)| folder.write(&format!("dump{i}"), &writer.part(part.clone())))
        .collect();
    folder.write("other", b"KDUMP   and nothing of the kind");
    for file in &files {
        let found = is_found(&Memory::open(file).unwrap(), &recipe);
        assert_eq!(found.how[0], "the dump was split: 5 of its parts were found side by side");
    }
    // One without pages, alone.
    let alone = Folder::new("empty");
    let empty = Memory::open(&alone.write("dump", &writer.part(all..all))).unwrap_err().to_string();
    assert!(empty.contains("has no memory in it") && empty.contains("others are missing"), "{empty}");
    std::fs::remove_file(&files[1]).unwrap();
    let (found, held) = text_of(&Memory::open(&files[0]).unwrap(), &recipe.image());
    assert_eq!((held.unread.len(), &held.unread[0]), (1, &(TEXT + 0x3000..TEXT + 0x4000)));
    assert!(found.how[0].ends_with("4 of its parts were found side by side, others are missing"), "{:?}", found.how);
}

#[test]
fn a_page_that_cannot_be_unpacked_is_an_error_that_names_it() {
    let recipe = Recipe::new(Bits::B64);
    let memory = recipe.memory(PHYSICAL, SLIDE);
    // Headers, VMCOREINFO's block, two bitmaps, then descriptors of 24 bytes.
    let descriptor = 4 * 4096 + 24 * (PAGE - 1);
    for packing in [Packing::Zlib, Packing::Lzo, Packing::Snappy, Packing::Zstd] {
        let dump = KdumpWriter::new(&memory, packing).build();
        let changed = |at: usize, bytes: &[u8]| {
            let mut dump = dump.clone();
            dump[at..at + bytes.len()].copy_from_slice(bytes);
            refused(dump)
        };
        let named = "physical 0x402000)";
        let error = changed(descriptor + 12, &0x40u32.to_le_bytes());
        assert!(error.contains("packed in a way not known, flags 0x40"), "{error}");
        let error = changed(descriptor + 8, &5000u32.to_le_bytes());
        assert!(error.contains(named) && error.contains("no page has more than 4096"), "{error}");
        let error = changed(descriptor, &u64::MAX.to_le_bytes());
        assert!(error.contains(named) && error.contains("is truncated"), "{error}");
        let offset = u64::from_le_bytes(*dump[descriptor..].first_chunk().unwrap()) as usize;
        let error = changed(offset, &[0xff; 16]);
        assert!(error.contains(named) && error.contains("cannot be unpacked"), "{packing:?}: {error}");
        let error = changed(descriptor + 12, &0x21u32.to_le_bytes());
        assert!(error.contains(named) && error.contains("packed in a way not known, flags 0x21"), "{error}");
    }
}

#[test]
fn a_kdump_that_ends_too_early_is_truncated() {
    let recipe = Recipe::new(Bits::B64);
    let dump = KdumpWriter::new(&recipe.memory(PHYSICAL, SLIDE), Packing::Zlib).build();
    for end in [100, 4096, 5000] {
        let error = refused(dump[..end].to_vec());
        assert!(error.contains("truncated"), "{end}: {error}");
    }
    let error = refused(dump[..dump.len() / 4].to_vec());
    assert!(error.contains("is truncated: its") && error.contains("physical"), "{error}");
    let flat = flattened(&dump, 9000);
    for end in [20, 4096 + 10, flat.len() / 2, flat.len() - 20] {
        let error = refused(flat[..end].to_vec());
        assert!(error.contains("truncated"), "{end}: {error}");
    }
}

// AVML

#[test]
fn avml_is_unpacked_block_by_block() {
    for bits in [Bits::B64, Bits::B32] {
        let recipe = Recipe::new(bits);
        let memory = recipe.memory(PHYSICAL, SLIDE);
        let (low, high) = memory.split_at(0x3f_0000);
        let dump = opened(avml(&[(0, low), (0x3f_0000, high)]));
        assert_eq!((dump.kind(), dump.physical().size()), (MemoryKind::Avml, MEMORY as u64));
        is_found(&dump, &recipe);
        // A block of zeros is left out.
        let (first, rest) = (&memory[..0x40_3000], &memory[0x40_5000..]);
        let (_, held) = text_of(&opened(avml(&[(0x40_5000, rest), (0, first)])), &recipe.image());
        assert_eq!((held.unread.len(), &held.unread[0]), (1, &(recipe.text() + 0x3000..recipe.text() + 0x5000)));
    }
}

#[test]
fn a_changed_chunk_of_avml_is_refused() {
    let recipe = Recipe::new(Bits::B64);
    let memory = recipe.memory(PHYSICAL, SLIDE);
    let dump = avml(&[(PHYSICAL, &memory[PHYSICAL as usize..][..IMAGE_SIZE])]);
    let with = |at: usize, value: u8| {
        let mut dump = dump.clone();
        dump[at] ^= value;
        refused(dump)
    };
    // A block's header, the stream's beginning, then the first chunk: its kind, length and checksum.
    assert!(with(5000, 0xff).contains("memory at 0x400000 cannot be unpacked"), "{}", with(5000, 0xff));
    assert!(with(42, 0x7f).contains("which nothing is known of"), "{}", with(42, 0x7f));
    assert!(with(46, 1).contains("cannot be unpacked"), "{}", with(46, 1));
    assert!(with(4, 1).contains("version 2"), "{}", with(4, 1));
    assert!(with(dump.len() - 8, 1).contains("is said to have"), "{}", with(dump.len() - 8, 1));
    for end in [20, 60, 3000, dump.len() - 3] {
        assert!(refused(dump[..end].to_vec()).contains("truncated"), "{end}");
    }
}

// Hypervisors

#[test]
fn pages_of_xen_are_where_the_guest_has_them() {
    let recipe = Recipe::new(Bits::B64);
    let memory = recipe.memory(PHYSICAL, SLIDE);
    let pages: Vec<(u64, &[u8])> = memory.chunks(4096).enumerate().map(|(i, page)| (i as u64, page)).rev().collect();
    for paravirtual in [false, true] {
        let dump = opened(xen_core(&pages, paravirtual));
        assert_eq!((dump.kind(), dump.physical().size()), (MemoryKind::Xen, MEMORY as u64));
        is_found(&dump, &recipe);
        let core = xen_core(&pages, paravirtual);
        assert!(refused(core[..core.len() - 1].to_vec()).contains("truncated"));
    }
    let mut nameless = xen_core(&pages, false);
    let at = nameless.windows(8).position(|bytes| bytes == b".xen_pfn").unwrap();
    nameless[at] = b'-';
    assert!(refused(nameless).contains("no .xen_pfn, no .xen_p2m"));
}

/// A kernel that names its own page tables, three pages of its constants; and the guest's memory with them filled in.
fn mapped(recipe: &Recipe, machine: u64) -> (Image, Vec<u8>) {
    let (linked, top) = (recipe.linked(), RODATA + 0x4000);
    let lists: Vec<u8> = recipe.lists().iter().flat_map(|word| word.to_le_bytes()).collect();
    let writer = ElfWriter::new(Bits::B64)
        .section(".text", TEXT, flags::TEXT, &linked[..TEXT_SIZE])
        .section(".rodata", TEXT + RODATA, flags::RODATA, &linked[RODATA as usize..][..RODATA_SIZE])
        .symbol("init_top_pgt", TEXT + top, 0x1000, 'D')
        .trailer(&lists);
    let mut memory = recipe.memory(PHYSICAL, SLIDE);
    let tables = (PHYSICAL + top) as usize;
    memory[tables..tables + 0x3000].fill(0);
    map(&mut memory, tables, TEXT + SLIDE, PHYSICAL);
    for entry in memory[tables..tables + 0x3000].chunks_exact_mut(8) {
        let held = u64::from_le_bytes(entry.try_into().unwrap());
        if held & 1 != 0 {
            entry.copy_from_slice(&(held + machine).to_le_bytes());
        }
    }
    (Image::from_bytes("vmlinux", writer.build()).unwrap(), memory)
}

#[test]
fn a_paravirtual_guest_s_page_tables_have_the_machine_s_frames() {
    let recipe = Recipe::new(Bits::B64);
    // `xen_core` has the guest's pages 0x1000 frames further on in the machine.
    let (image, memory) = mapped(&recipe, 0x1000 << 12);
    let pages: Vec<(u64, &[u8])> = memory.chunks(4096).enumerate().map(|(i, page)| (i as u64, page)).collect();
    let read = |paravirtual| {
        let dump = opened(xen_core(&pages, paravirtual));
        let found = dump.find(&image, &mut |_, _| Ok(())).unwrap();
        let mut code = vec![0; 64];
        let mapped = Mapped::new(&dump, &found, &image).map_err(|error| error.reason)?;
        assert!(mapped.read(TEXT + SLIDE, &mut code).unwrap());
        // What no page table maps is not there.
        assert!(!mapped.read(TEXT + SLIDE + (4 << 20), &mut [0; 8]).unwrap());
        Ok::<_, String>(code)
    };
    assert_eq!(read(true).unwrap(), recipe.linked()[..64]);
    assert!(read(false).unwrap_err().contains("no page tables that map the kernel"));
}

#[test]
fn where_the_cpu_has_the_hypervisor_s_page_tables_the_kernel_s_own_are_taken() {
    let recipe = Recipe::new(Bits::B64);
    let (image, memory) = mapped(&recipe, 0);
    let dump = opened(CoreWriter::new(Bits::B64).cpu(0x7000, 0x20).physical(0, &memory).build());
    let found = dump.find(&image, &mut |_, _| Ok(())).unwrap();
    let mut code = vec![0; 64];
    assert!(Mapped::new(&dump, &found, &image).unwrap().read(TEXT + SLIDE, &mut code).unwrap());
    assert_eq!(code, recipe.linked()[..64]);
}

#[test]
fn memory_of_vmware_belongs_where_its_state_says() {
    let recipe = Recipe::new(Bits::B64);
    let memory = recipe.memory(PHYSICAL, SLIDE);
    // The file has the second half of memory first.
    let half = MEMORY / 2;
    let file = [&memory[half..], &memory[..half]].concat();
    let pages = half as u32 / 4096;
    let regions = [(pages, 0, pages), (0, pages, pages)];
    let folder = Folder::new("vmware");
    let vmem = folder.write("guest.vmem", &file);
    let kind = |path: &Path| Memory::open(path).unwrap().kind();
    assert_eq!(kind(&vmem), MemoryKind::Plain, "nothing beside it");
    for extension in ["vmsn", "vmss"] {
        let state = folder.write(&format!("guest.{extension}"), &vmware_state(&regions, Some((0x1000, 0x20)), None));
        for path in [&vmem, &state] {
            assert_eq!(kind(path), MemoryKind::Vmware);
            let memory = Memory::open(path).unwrap();
            is_found(&memory, &recipe);
            assert_eq!(memory.notes().cpus.len(), 1);
        }
    }
    std::fs::remove_file(&vmem).unwrap();
    let error = Memory::open(&folder.0.join("guest.vmss")).unwrap_err().to_string();
    assert!(error.contains("the .vmem of the same name has to lie beside it"), "{error}");
    // ESX's, with memory in the state.
    is_found(&opened(vmware_state(&[], None, Some(&memory))), &recipe);
    is_found(&opened(vmware_state(&regions, None, Some(&file))), &recipe);
}

#[test]
fn a_state_of_vmware_that_lies_is_refused() {
    let memory = vec![0; 1 << 16];
    assert!(refused(vmware_state(&[(0, 0, 17)], None, Some(&memory))).contains("region 0 of 69632 bytes"));
    assert!(refused(vmware_state(&[(u32::MAX, u32::MAX, u32::MAX)], None, Some(&memory))).contains("region 0"));
    let state = vmware_state(&[(0, 0, 1)], Some((0, 0)), Some(&memory));
    for end in [5, 12, 100, 180, 400, state.len() - 3] {
        assert!(refused(state[..end].to_vec()).contains("truncated"), "{end}: {}", refused(state[..end].to_vec()));
    }
}

#[test]
fn a_copy_of_kcore_by_perf_has_virtual_addresses_only() {
    let recipe = Recipe::new(Bits::B64);
    let moved = recipe.moved(SLIDE);
    // A page of a module first: perf copies those, too, and writes physical address 0 for all.
    let core = CoreWriter::new(Bits::B64)
        .stretch(0xffff_ffff_c000_0000, 0, &[0x90; 4096])
        .stretch(TEXT + SLIDE, 0, &moved)
        .build();
    let (found, held) = text_of(&opened(core), &recipe.image());
    assert_eq!((found.slide, found.physical), (SLIDE, None));
    assert!(held.bytes == recipe.linked()[..TEXT_SIZE]);
}
