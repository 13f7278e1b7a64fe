//! A kernel is found in memory of every kind, with its slide, and its bytes come back as linked.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

mod elfwriter;
mod kernels;
mod memory_support;

use elfwriter::dump::{CoreWriter, lime};
use elfwriter::pack;
use memory_support::{IMAGE_SIZE, MEMORY, NOTES, RODATA, Recipe, TEXT, TEXT_SIZE, map, noise};
use pvops::Result;
use pvops::image::{Bits, Compression, Image};
use pvops::memory::{LinkedBytes, Location, Memory, MemoryKind, Reader};

const SLIDE: u64 = 0x1240_0000;
const PHYSICAL: u64 = 0x40_0000;

fn found(memory: &Memory, image: &Image) -> Result<Location> {
    memory.find(image, &mut |_, _| Ok(()))
}

fn text_of(memory: &Memory, image: &Image) -> (Location, LinkedBytes) {
    let found = found(memory, image).unwrap();
    let text = image.section(".text").unwrap();
    let held = found.read(memory, image, text.address..text.end()).unwrap();
    (found, held)
}

fn opened(bytes: Vec<u8>) -> Memory {
    Memory::from_bytes("dump", bytes).unwrap()
}

fn refused(bytes: Vec<u8>, image: &Image) -> String {
    match Memory::from_bytes("dump", bytes).and_then(|memory| found(&memory, image)) {
        Ok(found) => panic!("found: {found:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn every_format_gives_the_linked_bytes() {
    for bits in [Bits::B64, Bits::B32] {
        let recipe = Recipe::new(bits);
        let (image, memory) = (recipe.image(), recipe.memory(PHYSICAL, SLIDE));
        let (low, high) = memory.split_at(0x3f_0000);
        let dumps = [
            (MemoryKind::ElfCore, CoreWriter::new(Bits::B64).physical(0, &memory).build()),
            (MemoryKind::ElfCore, CoreWriter::new(Bits::B32).physical(0, &memory).build()),
            (MemoryKind::ElfCore, CoreWriter::new(Bits::B64).physical(0x3f_0000, high).physical(0, low).build()),
            (MemoryKind::Lime, lime(&[(0, low), (0x3f_0000, high)])),
            (MemoryKind::Plain, memory.clone()),
        ];
        for (kind, dump) in dumps {
            let memory = opened(dump);
            assert_eq!(memory.kind(), kind);
            let (found, held) = text_of(&memory, &image);
            assert_eq!((found.slide, found.physical), (SLIDE, Some(PHYSICAL)), "{kind} {bits:?}");
            assert!(held.bytes == recipe.linked()[..TEXT_SIZE], "{kind} {bits:?}");
            assert!(held.unread.is_empty() && held.strays.is_empty());
        }
    }
}

#[test]
fn memory_listed_as_often_as_page_tables_map_it() {
    let recipe = Recipe::new(Bits::B64);
    let memory = recipe.memory(PHYSICAL, SLIDE);
    let seen = 0xffff_8880_0000_0000;
    let mut core = CoreWriter::new(Bits::B64).listed(7000);
    for (i, page) in memory.chunks(MEMORY / 10).enumerate() {
        let at = (i * (MEMORY / 10)) as u64;
        core = core.stretch(seen + at, at, page);
    }
    // More than 65,535 program headers: their number stands elsewhere.
    let (found, held) = text_of(&opened(core.build()), &recipe.image());
    assert_eq!((found.slide, held.bytes == recipe.linked()[..TEXT_SIZE]), (SLIDE, true));
}

#[test]
fn raw_text_is_at_its_linked_address() {
    let recipe = Recipe::new(Bits::B64);
    let (found, held) = text_of(&opened(recipe.linked()[..TEXT_SIZE].to_vec()), &recipe.image());
    assert_eq!((found.slide, found.physical), (0, None));
    assert!(held.bytes == recipe.linked()[..TEXT_SIZE]);
}

#[test]
fn text_whose_functions_are_sealed_is_found_by_what_is_between() {
    let recipe = Recipe::new(Bits::B64);
    // Seven lines of eight begin with `endbr64`, but those that have a field.
    let sealed = |code: &[u8; 4]| {
        let mut text = recipe.linked()[..TEXT_SIZE].to_vec();
        let lines = text.chunks_exact_mut(64).enumerate();
        lines.filter(|(i, _)| i % 8 != 7 && i % 16 != 1).for_each(|(_, line)| line[..4].copy_from_slice(code));
        text
    };
    let mut file = recipe.elf(&recipe.lists());
    let at = file.windows(64).position(|line| *line == recipe.linked()[..64]).unwrap();
    file[at..at + TEXT_SIZE].copy_from_slice(&sealed(b"\xf3\x0f\x1e\xfa"));
    let image = Image::from_bytes("vmlinux", file).unwrap();
    let memory = sealed(b"\x66\x0f\x1f\x00");
    assert!(text_of(&opened(memory.clone()), &image).1.bytes == memory);
}

struct Virtual {
    memory: Vec<u8>,
    at: u64,
}

impl Reader for Virtual {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result<bool> {
        let start = address.wrapping_sub(self.at) as usize;
        let Some(part) = start.checked_add(buffer.len()).and_then(|end| self.memory.get(start..end)) else {
            return Ok(false);
        };
        buffer.copy_from_slice(part);
        Ok(true)
    }

    fn complaint(&self) -> Option<String> {
        Some("no such page".to_owned())
    }
}

#[test]
fn a_reader_of_virtual_memory() {
    for bits in [Bits::B64, Bits::B32] {
        let recipe = Recipe::new(bits);
        // On i386 a kernel may lie at multiples of 8 KiB.
        let slide = if bits == Bits::B64 { SLIDE } else { 0x1240_2000 };
        let reader = Virtual { memory: recipe.moved(slide), at: recipe.text() + slide };
        let memory = Memory::from_reader("<read>", Box::new(reader));
        let (found, held) = text_of(&memory, &recipe.image());
        assert_eq!((found.slide, found.physical), (slide, None));
        assert!(held.bytes == recipe.linked()[..TEXT_SIZE]);
    }
}

#[test]
fn a_reader_that_has_no_kernel_is_quoted() {
    let recipe = Recipe::new(Bits::B64);
    let memory = Memory::from_reader("<read>", Box::new(Virtual { memory: Vec::new(), at: 0 }));
    let error = found(&memory, &recipe.image()).unwrap_err().to_string();
    assert_eq!(error, "<read>: 6.1.0-test is at none of the addresses it can slide to; the reader says: no such page");
}

#[test]
fn a_core_with_virtual_addresses_only() {
    let recipe = Recipe::new(Bits::B64);
    let core = CoreWriter::new(Bits::B64).stretch(TEXT + SLIDE, u64::MAX, &recipe.moved(SLIDE)).build();
    let (found, held) = text_of(&opened(core), &recipe.image());
    assert_eq!((found.slide, held.bytes == recipe.linked()[..TEXT_SIZE]), (SLIDE, true));
}

#[test]
fn the_live_kernel_is_read_where_its_headers_say() {
    let recipe = Recipe::new(Bits::B64);
    let moved = recipe.moved(SLIDE);
    let core = CoreWriter::new(Bits::B64)
        .note("VMCOREINFO", 0, vmcoreinfo(SLIDE).as_bytes())
        .stretch(TEXT + SLIDE, u64::MAX, &moved[..TEXT_SIZE])
        .stretch(TEXT + SLIDE + RODATA, u64::MAX, &moved[RODATA as usize..])
        .build();
    let path = std::env::temp_dir().join(format!("pvops-kcore-{}", std::process::id()));
    std::fs::write(&path, &core).unwrap();
    let memory = Memory::live(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(memory.kind(), MemoryKind::Live);
    let (found, held) = text_of(&memory, &recipe.image());
    assert_eq!((found.slide, held.bytes == recipe.linked()[..TEXT_SIZE]), (SLIDE, true));
    let beyond = found.read(&memory, &recipe.image(), TEXT + NOTES..TEXT + NOTES + 0x3000).unwrap();
    assert!(!beyond.unread.is_empty());
    let absent = Memory::live(Path::new("/nowhere/kcore")).unwrap_err().to_string();
    assert!(absent.starts_with("/nowhere/kcore: "), "{absent}");
}

#[test]
fn real_kernels_moved_by_their_own_relocations() {
    for path in kernels::kernels() {
        let image = Image::open(&path).unwrap();
        let (relocations, text) = (image.relocations().unwrap().unwrap(), image.section(".text").unwrap());
        let (slide, physical) = (0x0ce0_0000, 0x120_0000usize);
        let mut memory = vec![0; 112 << 20];
        for section in image.sections().iter().filter(|s| s.allocated && s.bits_present && s.address >= text.address) {
            let at = physical + (section.address - text.address) as usize;
            let bytes = image.section_bytes(section);
            memory[at..at + bytes.len()].copy_from_slice(bytes);
            relocations.apply(section.address, &mut memory[at..at + bytes.len()], slide);
        }
        // What the kernel patches is not what it was linked as: one byte of each page here.
        let mut changed = 0;
        for at in (physical..physical + text.size as usize).step_by(4096) {
            memory[at] ^= 0x55;
            changed += 1;
        }
        let (found, mut held) = text_of(&opened(memory), &image);
        assert_eq!((found.slide, found.physical), (slide, Some(physical as u64)), "{}", path.display());
        held.settle(&found, &image, |_| false);
        let differing = held.bytes.iter().zip(image.section_bytes(text)).filter(|(a, b)| a != b).count();
        assert_eq!(differing, changed, "{}", path.display());
    }
}

// What differs

#[test]
fn a_field_that_relocation_did_not_leave_is_raw_and_listed() {
    let recipe = Recipe::new(Bits::B64);
    let image = recipe.image();
    let mut memory = recipe.memory(PHYSICAL, SLIDE);
    let (overwritten, flipped, moved_back) = (0x41, 0x441, 0x841);
    memory[PHYSICAL as usize + overwritten..][..4].copy_from_slice(b"\x0f\x1f\x40\0");
    memory[PHYSICAL as usize + flipped + 1] ^= 0x10;
    let linked = recipe.linked();
    memory[PHYSICAL as usize + moved_back..][..4].copy_from_slice(&linked[moved_back..][..4]);
    let (found, mut held) = text_of(&opened(memory), &image);
    let strays: Vec<u64> = held.strays.iter().map(|field| field.address - TEXT).collect();
    assert_eq!(strays, [overwritten as u64, flipped as u64, moved_back as u64]);
    assert_eq!(&held.bytes[overwritten..][..4], b"\x0f\x1f\x40\0");

    held.settle(&found, &image, |field| field.address == TEXT + overwritten as u64);
    let differing: Vec<usize> = (0..TEXT_SIZE).filter(|&i| held.bytes[i] != linked[i]).collect();
    assert_eq!(held.bytes[flipped + 1] ^ linked[flipped + 1], 0x10, "one flipped bit is one flipped bit");
    let moved =
        u32::from_le_bytes(*linked[moved_back..].first_chunk().unwrap()).wrapping_add(SLIDE as u32).to_le_bytes();
    let back = (0..4).filter(|&i| moved[i] != linked[moved_back + i]).map(|i| moved_back + i);
    let expected: Vec<usize> = (overwritten..overwritten + 4)
        .filter(|&i| held.bytes[i] != linked[i])
        .chain([flipped + 1])
        .chain(back)
        .collect();
    assert_eq!(differing, expected);
    assert_eq!(held.strays.len(), 1);
}

#[test]
fn a_hole_in_memory_is_unread() {
    let recipe = Recipe::new(Bits::B64);
    let memory = recipe.memory(PHYSICAL, SLIDE);
    let hole = PHYSICAL as usize + 0x3000..PHYSICAL as usize + 0x5000;
    let core = CoreWriter::new(Bits::B64)
        .physical(0, &memory[..hole.start])
        .physical(hole.end as u64, &memory[hole.end..])
        .build();
    let (_, held) = text_of(&opened(core), &recipe.image());
    assert!(matches!(held.unread.as_slice(), [gap] if *gap == (TEXT + 0x3000..TEXT + 0x5000)), "{:?}", held.unread);
    assert!(held.bytes[0x3000..0x5000].iter().all(|&byte| byte == 0));
    assert!(held.bytes[0x5000..] == recipe.linked()[0x5000..TEXT_SIZE]);
}

#[test]
fn a_range_that_cuts_a_field_is_linked_too() {
    let recipe = Recipe::new(Bits::B64);
    let (image, memory) = (recipe.image(), opened(recipe.memory(PHYSICAL, SLIDE)));
    let found = found(&memory, &image).unwrap();
    let held = found.read(&memory, &image, TEXT + 0x43..TEXT + 0x443).unwrap();
    assert!(held.bytes == recipe.linked()[0x43..0x443]);
    assert!(found.read(&memory, &image, 0..u64::MAX).is_err(), "no memory for that");
}

// How far it slid

fn vmcoreinfo(slide: u64) -> String {
    format!(
        "OSRELEASE=6.1.0-test\nNUMBER(phys_base)=-4096\nSYMBOL(_stext)={:x}\nKERNELOFFSET={slide:x}\n",
        TEXT + slide
    )
}

#[test]
fn vmcoreinfo_has_to_agree() {
    let recipe = Recipe::new(Bits::B64);
    let core = |told: u64| {
        let memory = recipe.memory(PHYSICAL, SLIDE);
        CoreWriter::new(Bits::B64).note("VMCOREINFO", 0, vmcoreinfo(told).as_bytes()).physical(0, &memory).build()
    };
    let memory = opened(core(SLIDE));
    let info = memory.notes().vmcoreinfo.clone().unwrap();
    assert_eq!((info.physical_base(), info.symbol("_stext")), (Some(0u64.wrapping_sub(4096)), Some(TEXT + SLIDE)));
    let found = found(&memory, &recipe.image()).unwrap();
    assert!(found.how.contains(&"VMCOREINFO says the same".to_owned()), "{found:?}");
    let error = refused(core(0x60_0000), &recipe.image());
    assert_eq!(error, "dump: its relocated addresses slid by 0x12400000, but VMCOREINFO says 0x600000");
}

#[test]
fn of_two_copies_the_one_runs_that_page_tables_map() {
    let recipe = Recipe::new(Bits::B64);
    let mut memory = recipe.memory(PHYSICAL, SLIDE);
    // The kernel's file in the page cache, by chance in one piece: as good as the kernel, but for what maps it.
    memory[0x20_0000..][..IMAGE_SIZE].copy_from_slice(&recipe.linked());
    map(&mut memory, 0x1000, TEXT + SLIDE, PHYSICAL);
    for cr3 in [0x1000, 0x1000 | 5] {
        let core = CoreWriter::new(Bits::B64).cpu(cr3, 0x20).physical(0, &memory).build();
        let found = found(&opened(core), &recipe.image()).unwrap();
        assert_eq!((found.physical, found.slide), (Some(PHYSICAL), SLIDE), "{found:?}");
    }
}

#[test]
fn an_image_without_relocations_is_found_where_it_did_not_slide() {
    let recipe = Recipe { relocatable: false, ..Recipe::new(Bits::B64) };
    let core = |slide: u64| {
        let mut memory = Recipe { relocatable: true, ..recipe.clone() }.memory(PHYSICAL, slide);
        map(&mut memory, 0x1000, TEXT + slide, PHYSICAL);
        CoreWriter::new(Bits::B64).cpu(0x1000, 0x20).physical(0, &memory).build()
    };
    assert_eq!(found(&opened(core(0)), &recipe.image()).unwrap().slide, 0);
    let error = refused(core(SLIDE), &recipe.image());
    assert!(error.contains("slid by 0x12400000, and vmlinux does not say where its absolute addresses are"), "{error}");
}

#[test]
fn a_kernel_without_relocations_in_its_bzimage_cannot_slide() {
    // As those of i386 without RELOCATABLE; the vmlinux alone does not say so.
    let recipe = Recipe { relocatable: false, ..Recipe::new(Bits::B32) };
    let memory = recipe.memory(PHYSICAL, 0);
    let packed = pack::bzimage(&pack::compress(Compression::Gzip, &recipe.elf(&[])));
    let image = Image::from_bytes("vmlinuz", packed).unwrap();
    let found = found(&opened(memory.clone()), &image).unwrap();
    assert_eq!((found.slide, found.physical), (0, Some(PHYSICAL)));
    assert!(found.how.iter().any(|how| how.contains("has no relocations")), "{found:?}");
    assert!(refused(memory, &recipe.image()).contains("cannot tell how far the kernel slid"));
}

#[test]
fn addresses_that_slid_by_different_ways_are_refused() {
    let recipe = Recipe::new(Bits::B64);
    let mut memory = recipe.memory(PHYSICAL, SLIDE);
    for (i, (at, width, _)) in recipe.fields().into_iter().enumerate() {
        memory[PHYSICAL as usize + at as usize..][..width].fill(i as u8);
    }
    let error = refused(memory, &recipe.image());
    assert!(error.contains("do not agree on a slide"), "{error}");
}

// Where kernels do not usually lie

#[test]
fn a_kernel_at_an_odd_page_is_found_by_its_banner() {
    let recipe = Recipe::new(Bits::B64);
    let memory = opened(recipe.memory(0x12_3000, SLIDE));
    let mut reports = 0;
    let found = memory.find(&recipe.image(), &mut |done, total| {
        reports += 1;
        assert!(done <= total && total == MEMORY as u64);
        Ok(())
    });
    assert_eq!(found.unwrap().physical, Some(0x12_3000));
    assert!(reports > 0);
}

#[test]
fn an_error_of_the_progress_ends_the_search() {
    let recipe = Recipe::new(Bits::B64);
    let memory = opened(noise(77, MEMORY));
    let error = memory.find(&recipe.image(), &mut |_, _| Err(pvops::Error::memory("enough"))).unwrap_err();
    assert_eq!(error.reason, "enough");
}

#[test]
fn holes_of_a_sparse_file_are_not_gone_through() {
    const TIB: u64 = 1 << 40;
    let recipe = Recipe::new(Bits::B64);
    let image = recipe.image();
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sparse");
    let memory = |place: Option<(u64, u64)>| {
        let file = File::create(&path).unwrap();
        file.set_len(4 * TIB).unwrap();
        if let Some((at, kernel)) = place {
            file.write_all_at(&recipe.memory(kernel, SLIDE)[kernel as usize..], at + kernel).unwrap();
        }
        Memory::open(&path).unwrap()
    };
    let mut reports = 0;
    let mut find = |memory: &Memory| {
        memory.find(&image, &mut |_, _| {
            reports += 1;
            Ok(())
        })
    };
    // One where kernels lie, one that only its banner finds.
    for kernel in [PHYSICAL, 0x12_3000] {
        let memory = memory(Some((2 * TIB, kernel)));
        let found = find(&memory).unwrap();
        assert_eq!((found.slide, found.physical), (SLIDE, Some(2 * TIB + kernel)));
        let said = found.how.iter().any(|how| how.ends_with("bytes are holes of a sparse file, which read as zeros"));
        assert!(said, "{:?}", found.how);
        let text = image.section(".text").unwrap();
        let held = found.read(&memory, &image, text.address..text.end()).unwrap();
        assert!(held.bytes == recipe.linked()[..TEXT_SIZE]);
    }
    assert!(find(&memory(None)).unwrap_err().reason.contains("holds nothing but zeros"));
    std::fs::remove_file(&path).unwrap();
    assert!(reports < 100, "{reports} reports of a long search");
}
