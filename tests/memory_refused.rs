//! What is no memory of this kernel is refused, and said what it is.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::Write;
use std::path::Path;

mod elfwriter;
mod kernels;
mod memory_support;

use elfwriter::dump::{CoreWriter, lime};
use elfwriter::hypervisors::xen_core;
use elfwriter::packed::flattened;
use memory_support::{MEMORY, Recipe, TEXT_SIZE, noise};
use pvops::image::{Bits, Image};
use pvops::memory::Memory;

const SLIDE: u64 = 0x1240_0000;
const PHYSICAL: u64 = 0x40_0000;

fn refused(bytes: Vec<u8>, image: &Image) -> String {
    match Memory::from_bytes("dump", bytes).and_then(|memory| memory.find(image, &mut |_, _| Ok(()))) {
        Ok(found) => panic!("found: {found:?}"),
        Err(error) => error.to_string(),
    }
}

/// An ELF core whose segments, of this type and at these virtual and physical addresses, are all the same mebibyte of the file.
fn core_of_one_mebibyte(kind: u32, places: &[[u64; 2]]) -> Vec<u8> {
    const MEBIBYTE: u64 = 1 << 20;
    let mut core = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x04\0\x3e\0\x01\0\0\0".to_vec();
    [0, 64, 0].iter().for_each(|word: &u64| core.extend(word.to_le_bytes()));
    core.extend([0, 0, 0, 0, 64, 0, 56, 0]);
    core.extend((places.len() as u16).to_le_bytes());
    core.extend([0; 6]);
    let offset = 64 + 56 * places.len() as u64;
    for [virtual_, physical] in places {
        core.extend([kind, 4].map(u32::to_le_bytes).concat());
        core.extend([offset, *virtual_, *physical, MEBIBYTE, MEBIBYTE, 0].map(u64::to_le_bytes).concat());
    }
    core.resize(core.len() + MEBIBYTE as usize, 0);
    core
}

#[test]
fn what_memory_holds_instead_is_named() {
    let recipe = Recipe::new(Bits::B64);
    let image = recipe.image();
    let other = Recipe { seed: 2, banner: recipe.banner.replace("6.1.0-test", "6.1.0-other"), ..recipe.clone() };
    let rebuilt = Recipe { seed: 2, banner: recipe.banner.replace("6.1.1-1", "6.1.1-2"), ..recipe.clone() };
    let cases = [
        (other.memory(PHYSICAL, SLIDE), "is of another kernel: it has 6.1.0-other, not 6.1.0-test"),
        (
            rebuilt.memory(PHYSICAL, SLIDE),
            "is of another build of 6.1.0-test: it has #1 SMP Test 6.1.1-2 (2026-01-01), the image is #1 SMP Test 6.1.1-1",
        ),
        (
            Recipe { seed: 3, ..recipe.clone() }.memory(PHYSICAL, SLIDE),
            "has the banner of 6.1.0-test, but its code and constants nowhere",
        ),
        (
            Recipe { build_id: 9, ..recipe.clone() }.memory(PHYSICAL, SLIDE),
            "of another build of 6.1.0-test: its build ID is 0909",
        ),
        (noise(5, MEMORY), "is encrypted, compressed or noise: 8.00 bits"),
        (vec![0; MEMORY], "holds nothing but zeros"),
        (b"a diary, page by page. ".repeat(100_000), "holds no Linux kernel"),
        (noise(6, TEXT_SIZE), "is encrypted, compressed or noise"),
        (vec![0; TEXT_SIZE], "holds nothing but zeros"),
        (b"not a kernel's text ".repeat(TEXT_SIZE / 20 + 1)[..TEXT_SIZE].to_vec(), "is not the text of 6.1.0-test"),
        (Vec::new(), "is empty"),
    ];
    for (memory, expected) in cases {
        let error = refused(memory, &image);
        assert!(error.starts_with("dump: ") && error.contains(expected), "{error}");
    }
}

/// Since 6.1 a kernel's constants have a banner without the build before the one with it.
#[test]
fn of_a_kernel_with_two_banners_the_one_with_the_build_tells() {
    let recipe = Recipe::new(Bits::B64);
    let (builder, _) = recipe.banner.split_once('#').unwrap();
    let two = |build: &str| Recipe { banner: format!("{builder}# SMP \n\0{builder}{build} "), ..recipe.clone() };
    let (built, rebuilt) = (two("#1 SMP Fri Jul 14"), two("#2 SMP Sat Jul 15"));
    let image = built.image();
    assert_eq!(image.banner().map(str::to_owned), Some(format!("{builder}#1 SMP Fri Jul 14")));
    let memory = Memory::from_bytes("dump", built.memory(PHYSICAL, SLIDE)).unwrap();
    assert_eq!(memory.find(&image, &mut |_, _| Ok(())).unwrap().slide, SLIDE);
    let expected = "is of another build of 6.1.0-test: it has #2 SMP Sat Jul 15, the image is #1 SMP Fri Jul 14";
    for other in [rebuilt.clone(), Recipe { seed: 2, ..rebuilt }] {
        let error = refused(other.memory(PHYSICAL, SLIDE), &image);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn formats_that_are_not_read_are_named() {
    let image = Recipe::new(Bits::B64).image();
    for (head, expected) in [
        (b"LibvirtQemudSave".as_slice(), "virsh dump --memory-only"),
        (b"QEVM\0\0\0\x03", "dump-guest-memory"),
        (b"QFI\xfb\0\0\0\x03", "loadvm"),
        (b"PAGEDU64", "Windows"),
        (b"\x01\x40\x28\x01", "Hyper-V"),
        (b"\x7fVirtualBox SavedState V2.0\n", "dumpvmcore"),
        (b"Xen saved domain, xl format\n", "xl dump-core"),
        (b"\x1f\x8b\x08\0", "gunzip"),
        (b"\x28\xb5\x2f\xfd", "unzstd"),
        (b"EVF\x09\x0d\x0a\xff\0", "ewfexport"),
    ] {
        let error = refused(head.to_vec(), &image);
        assert!(error.contains(expected), "{error}");
    }
    let mut swap = vec![0; 8192];
    swap[4086..4096].copy_from_slice(b"S1SUSPEND\0");
    assert!(refused(swap, &image).contains("hibernat"));
}

#[test]
fn a_truncated_dump_is_said_to_be_truncated() {
    let recipe = Recipe::new(Bits::B64);
    let (image, memory) = (recipe.image(), recipe.memory(PHYSICAL, SLIDE));
    let core = CoreWriter::new(Bits::B64).note("VMCOREINFO", 0, b"A=1\n").physical(0, &memory).build();
    for end in [10, 63, 100, 180, 250, 4096, core.len() / 2, core.len() - 1] {
        let error = refused(core[..end].to_vec(), &image);
        assert!(error.contains("truncated"), "{end}: {error}");
    }
    let lime = lime(&[(0, &memory[..4096]), (4096, &memory[4096..])]);
    for end in [20, 1000, 4096 + 40, lime.len() - 1] {
        let error = refused(lime[..end].to_vec(), &image);
        assert!(error.contains("truncated"), "{end}: {error}");
    }
    // Plain memory has no headers to say that it ends too early, but its kernel does.
    let error = refused(memory[..PHYSICAL as usize + 0x4000].to_vec(), &image);
    assert!(error.contains("truncated"), "{error}");
}

#[test]
fn much_memory_of_few_bytes_is_refused_and_not_gone_through() {
    let image = Recipe::new(Bits::B64).image();
    // A piece of eight bytes, far beyond all others.
    let mut far = flattened(&noise(1, 4096), 4096);
    far.truncate(far.len() - 16);
    far.extend([1u64 << 62, 8, 0].map(u64::to_be_bytes).concat());
    far.extend([0xff; 16]);
    let error = refused(far, &image);
    assert!(error.contains("bytes in none of them"), "{error}");
    // A terabyte of segments, all of them the same mebibyte of the file.
    let (count, gib) = (1u64 << 10, 1u64 << 30);
    for physical in [true, false] {
        let place = |i: u64| {
            let address = i * gib + gib;
            if physical { [0, address] } else { [u64::MAX - (1 << 45) + address, u64::MAX] }
        };
        let places: Vec<[u64; 2]> = (0..count).map(place).collect();
        let error = refused(core_of_one_mebibyte(1, &places), &image);
        assert!(error.contains("of which its headers make 1073741824 of memory"), "{error}");
    }
}

#[test]
fn pages_of_xen_in_no_order_are_refused_beyond_a_million() {
    // The pages themselves are a hole in the file: 4 GiB that are nowhere.
    let opened = |numbers: &mut dyn Iterator<Item = u64>, paravirtual: bool| {
        let pages: Vec<(u64, &[u8])> = numbers.map(|number| (number, &[][..])).collect();
        let bytes = xen_core(&pages, paravirtual);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("xen-{paravirtual}-{}", pages[0].0));
        let mut file = File::create(&path).unwrap();
        file.write_all(&bytes).unwrap();
        file.set_len((bytes.len() + 4096 * pages.len()) as u64).unwrap();
        let found = Memory::open(&path).map(|memory| memory.physical().extents().len());
        std::fs::remove_file(&path).unwrap();
        found.map_err(|error| error.to_string())
    };
    const MOST: u64 = 1 << 20;
    for paravirtual in [false, true] {
        assert_eq!(opened(&mut (1..MOST + 3), paravirtual), Ok(1), "in order");
        let refused = opened(&mut (0..MOST + 2).rev(), paravirtual).unwrap_err();
        assert!(refused.contains("in no order: they are more than 1048576 stretches"), "{refused}");
        assert!(refused.contains("section 2"), "{refused}");
    }
}

#[test]
fn notes_that_many_segments_share_are_read_once_and_then_refused() {
    let image = Recipe::new(Bits::B64).image();
    let error = refused(core_of_one_mebibyte(4, &[[0, 0]; 4096]), &image);
    assert!(error.contains("17825792 bytes of notes are too many") && error.contains("segment 16"), "{error}");
}

#[test]
fn a_stream_is_refused_by_its_beginning_only_where_that_tells() {
    let refused = |start: &[u8]| Memory::refuse_by_start("pipe", start).map_err(|error| error.to_string());
    assert!(refused(b"\x1f\x8b\x08").unwrap_err().starts_with("pipe: is packed by gzip"));
    // What is too short to tell, and the formats that begin with what tells them, are judged when all is there.
    let mut core = vec![0; Memory::TELLING];
    core[..20].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x04\0\x3e\0");
    for start in [noise(1, MEMORY), vec![0; 4096], b"yes\n".repeat(1000), Vec::new(), core] {
        assert_eq!(refused(&start), Ok(()));
    }
    let said = |start: &[u8]| refused(start).unwrap_err();
    assert!(said(&noise(2, Memory::TELLING)).contains("64 MiB are no memory of a machine: 8.00 bits of information"));
    assert!(said(&vec![0; Memory::TELLING]).contains("no memory of a machine: nothing but zeros"));
    assert!(said(&b"y\n".repeat(Memory::TELLING / 2)).contains("no memory of a machine: 2 different bytes in all"));
    // A machine that has hardly been used: one page of code in pages of zeros.
    let mut memory = vec![0; Memory::TELLING];
    memory[0x9_9000..][..4].copy_from_slice(b"\xfa\xfc\x31\xc0");
    assert_eq!(refused(&memory), Ok(()));
}

#[test]
fn a_name_that_is_no_utf8_is_shown_with_its_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let name = std::ffi::OsStr::from_bytes(b"no such \xff\xfe file");
    let shown = r"no such \xff\xfe file: No such file or directory";
    assert_eq!(Memory::open(Path::new(name)).unwrap_err().to_string(), shown);
    assert_eq!(Image::open(Path::new(name)).unwrap_err().to_string(), shown);
}
