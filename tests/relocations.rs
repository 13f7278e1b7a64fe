//! Where absolute addresses stand: read from behind the ELF file, applied, undone; and lists that lie.
#![allow(clippy::unwrap_used)]

mod elfwriter;
mod kernels;
mod memory_support;

use elfwriter::{ElfWriter, flags};
use memory_support::{IMAGE_SIZE, Recipe, TEXT, TEXT_SIZE};
use pvops::image::{Bits, Image, RelocationKind};

#[test]
fn the_lists_of_every_kind_of_kernel() {
    for (bits, inverse) in [(Bits::B64, true), (Bits::B64, false), (Bits::B32, false)] {
        let recipe = Recipe { inverse, ..Recipe::new(bits) };
        let image = recipe.image();
        let relocations = image.relocations().unwrap().unwrap();
        assert_eq!(relocations.all().len(), recipe.fields().len());
        let count = |kind| relocations.all().iter().filter(|field| field.kind == kind).count();
        assert_eq!(count(RelocationKind::Inverse32), if inverse { 5 } else { 0 });
        assert_eq!(count(RelocationKind::Word32), 40);
        assert!(relocations.all().is_sorted());
    }
}

#[test]
fn applying_moves_and_applying_back_returns() {
    for bits in [Bits::B64, Bits::B32] {
        let recipe = Recipe::new(bits);
        let image = recipe.image();
        let relocations = image.relocations().unwrap().unwrap();
        let mut bytes = recipe.linked();
        for slide in [0x1240_0000u64, 0x20_0000, 0x3f00_0000] {
            relocations.apply(recipe.text(), &mut bytes, slide);
            assert!(bytes == recipe.moved(slide));
            relocations.apply(recipe.text(), &mut bytes, slide.wrapping_neg());
            assert!(bytes == recipe.linked());
        }
        // A field that is cut stays.
        let mut part = recipe.linked()[0x42..0x100].to_vec();
        relocations.apply(recipe.text() + 0x42, &mut part, 0x20_0000);
        assert!(part == recipe.linked()[0x42..0x100]);
    }
}

#[test]
fn an_image_of_32_bits_moves_downwards_as_far_as_kernels_lie() {
    let recipe = Recipe::new(Bits::B32);
    let image = recipe.image();
    let slide = (-0xf0_0000i64) as u64;
    let down = image.moved(slide).unwrap();
    assert!(down.read(recipe.text().wrapping_add(slide), TEXT_SIZE).unwrap() == &recipe.moved(slide)[..TEXT_SIZE]);
    assert!(image.moved((-0x9000_0000i64) as u64).unwrap_err().to_string().contains("leaves the address space"));
    assert!(image.moved(0x4000_0000).unwrap_err().to_string().contains("leaves the address space"));
}

#[test]
fn each_field_tells_the_slide() {
    for kind in [RelocationKind::Word64, RelocationKind::Word32, RelocationKind::Inverse32] {
        for slide in [0, 0x1240_0000, (-0x20_0000i64) as u64] {
            let linked = [0x10, 0x32, 0x54, 0x81, 0xff, 0xff, 0xff, 0xff];
            let mut moved = linked;
            kind.apply(&mut moved[..kind.width()], slide);
            assert_eq!(kind.slide_between(&linked, &moved), Some(slide), "{kind:?}");
        }
    }
}

#[test]
fn what_touches_a_range() {
    let image = Recipe::new(Bits::B64).image();
    let relocations = image.relocations().unwrap().unwrap();
    let starts = |low: u64, high: u64| relocations.touching(TEXT + low, TEXT + high).len();
    assert_eq!([starts(0x41, 0x45), starts(0x44, 0x45), starts(0x45, 0x101), starts(0x40, 0x41)], [1, 1, 0, 0]);
    assert_eq!(starts(0, IMAGE_SIZE as u64), relocations.all().len());
}

#[test]
fn an_image_without_lists_says_none() {
    let image = Recipe { relocatable: false, ..Recipe::new(Bits::B64) }.image();
    assert_eq!(image.relocations(), Ok(None));
}

#[test]
fn relocations_that_the_linker_left_in_a_vmlinux() {
    let (moving, per_cpu, number) = (1, 2, 3);
    let vmlinux = |rows: &[(u64, u32, u32, i64)]| {
        let file = ElfWriter::new(Bits::B64)
            .section(".text", TEXT, flags::TEXT, &[0; 64])
            .section(".data..percpu", 0, flags::DATA, &[0; 64])
            .relocations(1, rows)
            .relocations(2, &[(8, 1, moving, 0)])
            .symbol("_text", TEXT, 0, 'T')
            .symbol("this_cpu_off", 16, 8, 'D')
            .symbol("PAGE_SIZE", 4096, 0, 'A')
            .build();
        Image::from_bytes("vmlinux", file).unwrap()
    };
    let rows = [
        (TEXT + 8, 1, moving, 0),    // an address
        (TEXT + 20, 11, moving, 4),  // one of 32 bits
        (TEXT + 24, 2, per_cpu, -4), // a distance to what does not move
        (TEXT + 28, 4, moving, -4),  // a distance to what moves too
        (TEXT + 32, 11, per_cpu, 0), // an offset
        (TEXT + 40, 1, number, 0),   // a number
    ];
    let image = vmlinux(&rows);
    let found = image.relocations().unwrap().unwrap();
    let kinds: Vec<(u64, RelocationKind)> =
        found.all().iter().map(|field| (field.address - TEXT, field.kind)).collect();
    use RelocationKind::{Inverse32, Word32, Word64};
    assert_eq!(kinds, [(8, Word64), (20, Word32), (24, Inverse32)]);
    // sorttable leaves rows of zeros, which name no symbol.
    assert_eq!(vmlinux(&[(0, 0, 0, 0), rows[0]]).relocations().unwrap().unwrap().all().len(), 1);
    let refused = |row| vmlinux(&[row]).relocations().unwrap_err().to_string();
    assert!(refused((TEXT + 62, 1, moving, 0)).contains("field lies in no section with bytes"));
    assert!(refused((TEXT, 1, 9, 0)).contains("names a symbol that there is not"));
}

#[test]
fn addresses_that_the_linker_puts_among_per_cpu_data_move() {
    let names = ["__per_cpu_load", "__init_begin", "init_per_cpu__gdt_page", "cpu_number"];
    let image = |kind: u32, addend: i64| {
        let rows: Vec<_> = (0..4).map(|i| (TEXT + 8 * i, kind, 1 + i as u32, addend)).collect();
        let mut writer = ElfWriter::new(Bits::B64)
            .section(".text", TEXT, flags::TEXT, &[0; 64])
            .section(".data..percpu", 0, flags::DATA, &[0; 64])
            .relocations(1, &rows);
        for name in names {
            writer = writer.symbol(name, 0, 0, 'D');
        }
        Image::from_bytes("vmlinux", writer.build()).unwrap()
    };
    use RelocationKind::{Inverse32, Word64};
    let kinds = |image: &Image| -> Vec<(u64, RelocationKind)> {
        let found = image.relocations().unwrap().unwrap();
        found.all().iter().map(|field| ((field.address - TEXT) / 8, field.kind)).collect()
    };
    assert_eq!(kinds(&image(1, 0)), [(0, Word64), (1, Word64), (2, Word64)]);
    assert_eq!(kinds(&image(2, -4)), [(3, Inverse32)]);
}

#[test]
fn a_vmlinux_with_the_relocations_of_some_sections_only_says_nothing() {
    let vmlinux = |with: &[u32]| {
        let mut writer = ElfWriter::new(Bits::B64)
            .section(".text", TEXT, flags::TEXT, &[0; 8192])
            .section(".rodata", TEXT + 0x10000, flags::RODATA, &[0; 8192])
            .section(".init.text", TEXT + 0x20000, flags::TEXT, &[0; 8192])
            .section(".altinstr_aux", TEXT + 0x30000, flags::TEXT, &[0; 64])
            .symbol("_text", TEXT, 0, 'T');
        for &section in with {
            writer = writer.relocations(section, &[(TEXT + 0x10000 * u64::from(section - 1), 1, 1, 0)]);
        }
        Image::from_bytes("vmlinux", writer.build()).unwrap()
    };
    let fields = |with: &[u32]| vmlinux(with).relocations().unwrap().map(|found| found.all().len());
    assert_eq!(fields(&[1, 2, 3]), Some(3), "a short section may be without");
    for with in [[1, 2].as_slice(), &[1, 3], &[2, 3], &[1], &[4], &[]] {
        assert_eq!(fields(with), None, "{with:?}");
    }
}

#[test]
fn lists_that_lie_are_refused() {
    let recipe = Recipe::new(Bits::B64);
    let good = recipe.lists();
    let refused = |change: &dyn Fn(&mut Vec<u32>)| {
        let mut lists = good.clone();
        change(&mut lists);
        let image = Image::from_bytes("vmlinux", recipe.elf(&lists)).unwrap();
        image.relocations().unwrap_err().to_string()
    };
    let text = TEXT as u32;
    type Case<'a> = (&'a dyn Fn(&mut Vec<u32>), &'a str);
    let cases: [Case<'_>; 8] = [
        (&|lists| lists.swap(1, 2), "row 2 (0xffffffff81020203): addresses do not ascend"),
        (&|lists| lists[2] = lists[1], "addresses do not ascend"),
        (&|lists| lists.push(u32::MAX - 8), "field lies in no section with bytes"),
        (&|lists| lists.push(text + 0x3_003e), "field lies in no section with bytes"),
        (&|lists| lists.insert(0, 5), "does not begin with a zero"),
        (&|lists| lists.push(0), "4 lists are in no layout"),
        (&|lists| lists.retain(|&word| word != 0), "0 lists are in no layout"),
        (&|lists| lists.push(text + RODATA_FIELD + 4), "field overlaps that at 0xffffffff81020203"),
    ];
    for (change, expected) in cases {
        let error = refused(change);
        assert!(error.starts_with("vmlinux: vmlinux.relocs") && error.contains(expected), "{error}");
    }
    let odd = [recipe.elf(&good), vec![1]].concat();
    let error = Image::from_bytes("vmlinux", odd).unwrap().relocations().unwrap_err().to_string();
    assert!(error.contains("no whole number of 32-bit words"), "{error}");
    // 64-bit fields where 32-bit ones are: what they hold is no address.
    let mut shifted = good.clone();
    for word in shifted.iter_mut().filter(|word| **word != 0 && **word < text + TEXT_SIZE as u32) {
        *word += 7;
    }
    let error = Image::from_bytes("vmlinux", recipe.elf(&shifted)).unwrap().relocations().unwrap_err().to_string();
    assert!(error.contains("fields of 4 bytes hold an address of the image"), "{error}");
}

const RODATA_FIELD: u32 = 0x20203;

#[test]
fn real_kernels() {
    for path in kernels::kernels() {
        let image = Image::open(&path).unwrap();
        let relocations = image.relocations().unwrap().unwrap();
        let name = path.display();
        let (low, high) = image.bounds();
        assert!(relocations.all().len() > 200_000, "{name}: {}", relocations.all().len());
        assert!(relocations.all().iter().all(|field| low <= field.address && field.end() <= high), "{name}");
        let text = image.section(".text").unwrap();
        let linked = image.section_bytes(text);
        let fields = relocations.touching(text.address, text.end());
        // Every address in the code that is moved is one of the image, or of what it maps beside it.
        let inside = fields.iter().filter(|field| field.kind == RelocationKind::Word32).filter(|field| {
            let held = image.read(field.address, 4).unwrap();
            let word = u32::from_le_bytes(*held.first_chunk().unwrap());
            let address = if image.bits() == Bits::B64 { i64::from(word as i32) as u64 } else { u64::from(word) };
            (low..=high).contains(&address)
        });
        let words = fields.iter().filter(|field| field.kind == RelocationKind::Word32).count();
        assert!(inside.count() * 100 >= words * 97, "{name}");
        let mut moved = linked.to_vec();
        relocations.apply(text.address, &mut moved, 0x1240_0000);
        let changed = moved.iter().zip(linked).filter(|(a, b)| a != b).count();
        assert!(changed >= fields.len(), "{name}: every field changed");
        relocations.apply(text.address, &mut moved, 0x1240_0000u64.wrapping_neg());
        assert!(moved == linked, "{name}");
    }
}
