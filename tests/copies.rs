//! Fields that a replacement brought to its site hold the KASLR offset, though no relocation names them there.
#![allow(clippy::unwrap_used)]

mod elfwriter;
mod memory_support;

use elfwriter::{ElfWriter, flags};
use memory_support::{NOTES, RODATA, RODATA_SIZE, Recipe, TEXT, TEXT_SIZE};
use pvops::image::{Bits, Image};
use pvops::memory::Memory;
use pvops::sites::Tables;
use pvops::verify::unslide;

const SLIDE: u64 = 0x1240_0000;
const PHYSICAL: usize = 0x40_0000;
const REPLACEMENTS: u64 = TEXT + 0x4_0000;
const TABLE: u64 = TEXT + 0x5_0000;
/// Two sites, from the start of `.text`, where no relocation touches.
const SITES: [u64; 2] = [0x3000, 0x3100];
/// Bytes of each.
const LEN: usize = 10;

/// `mov $address, %rax` and `mov per_cpu(%rip), %rax`: where each has its field.
const FIELDS: [u64; 2] = [3, 4];

fn replacements() -> [Vec<u8>; 2] {
    let address = (TEXT as u32 + 0x700).to_le_bytes();
    // A per-CPU offset of 0x1000, seen from the end of the field.
    let distance = (0x1000u32).wrapping_sub((REPLACEMENTS as u32) + LEN as u32 + 8).to_le_bytes();
    let absolute = [&[0x48, 0xc7, 0xc0], address.as_slice(), &[0x90; 3]].concat();
    let relative = [&[0x65, 0x48, 0x8b, 0x05], distance.as_slice(), &[0x90; 2]].concat();
    [absolute, relative]
}

fn image(recipe: &Recipe) -> Image {
    let linked = recipe.linked();
    let mut lists = recipe.lists();
    // Zero, 64-bit fields, zero, distances, zero, 32-bit fields.
    let second = lists.iter().enumerate().filter(|(_, word)| **word == 0).nth(2).unwrap().0;
    lists.insert(second, (REPLACEMENTS + LEN as u64 + FIELDS[1]) as u32);
    lists.push((REPLACEMENTS + FIELDS[0]) as u32);
    let mut table = Vec::new();
    for (i, site) in SITES.into_iter().enumerate() {
        let row = TABLE + 12 * i as u64;
        let replacement = REPLACEMENTS + (LEN * i) as u64;
        table.extend(((TEXT + site).wrapping_sub(row) as u32).to_le_bytes());
        table.extend((replacement.wrapping_sub(row + 4) as u32).to_le_bytes());
        table.extend([7 * 32 + 5, 0, LEN as u8, LEN as u8]);
    }
    let lists: Vec<u8> = lists.iter().flat_map(|word| word.to_le_bytes()).collect();
    let file = ElfWriter::new(Bits::B64)
        .section(".text", TEXT, flags::TEXT, &built(recipe))
        .section(".rodata", TEXT + RODATA, flags::RODATA, &linked[RODATA as usize..][..RODATA_SIZE])
        .section(".notes", TEXT + NOTES, flags::RODATA, &linked[NOTES as usize..])
        .section(".altinstr_replacement", REPLACEMENTS, flags::TEXT, &replacements().concat())
        .section(".altinstructions", TABLE, flags::RODATA, &table)
        .trailer(&lists)
        .build();
    Image::from_bytes("vmlinux", file).unwrap()
}

/// `.text` as linked, with instructions at the sites.
fn built(recipe: &Recipe) -> Vec<u8> {
    let mut text = recipe.linked()[..TEXT_SIZE].to_vec();
    SITES.iter().for_each(|&site| text[site as usize..][..LEN].fill(0x90));
    text
}

/// What the sites hold once the kernel patched them, moved by so much.
fn patched(slide: u64) -> [Vec<u8>; 2] {
    let mut sites = replacements();
    let add = |site: &mut Vec<u8>, at: u64, value: u64| {
        let field = &mut site[at as usize..][..4];
        let moved = u32::from_le_bytes(*field.first_chunk().unwrap()).wrapping_add(value as u32);
        field.copy_from_slice(&moved.to_le_bytes());
    };
    add(&mut sites[0], FIELDS[0], slide);
    let way = (REPLACEMENTS + LEN as u64).wrapping_sub(TEXT + SITES[1]);
    add(&mut sites[1], FIELDS[1], way.wrapping_sub(slide));
    sites
}

#[test]
fn what_a_replacement_brought_is_handed_out_as_linked() {
    let recipe = Recipe::new(Bits::B64);
    let image = image(&recipe);
    let tables = Tables::read(&image).unwrap();
    let mut memory = recipe.memory(PHYSICAL as u64, SLIDE);
    for (site, bytes) in SITES.into_iter().zip(patched(SLIDE)) {
        memory[PHYSICAL + site as usize..][..LEN].copy_from_slice(&bytes);
    }
    let memory = Memory::from_bytes("dump", memory).unwrap();
    let found = memory.find(&image, &mut |_, _| Ok(())).unwrap();
    let mut held = found.read(&memory, &image, TEXT..TEXT + TEXT_SIZE as u64).unwrap();
    let at = |held: &pvops::memory::LinkedBytes, site: u64| held.bytes[site as usize..][..LEN].to_vec();
    assert_eq!(SITES.map(|site| at(&held, site)), patched(SLIDE));
    unslide(&mut held, &image, &tables, SLIDE);
    assert_eq!(SITES.map(|site| at(&held, site)), patched(0));
    assert_eq!(held.bytes[..SITES[0] as usize], built(&recipe)[..SITES[0] as usize]);
}

#[test]
fn a_field_that_somebody_changed_stays_as_it_is() {
    let recipe = Recipe::new(Bits::B64);
    let image = image(&recipe);
    let tables = Tables::read(&image).unwrap();
    let mut memory = recipe.memory(PHYSICAL as u64, SLIDE);
    let mut site = patched(SLIDE)[0].clone();
    site[FIELDS[0] as usize] ^= 1;
    memory[PHYSICAL + SITES[0] as usize..][..LEN].copy_from_slice(&site);
    let memory = Memory::from_bytes("dump", memory).unwrap();
    let found = memory.find(&image, &mut |_, _| Ok(())).unwrap();
    let mut held = found.read(&memory, &image, TEXT..TEXT + TEXT_SIZE as u64).unwrap();
    unslide(&mut held, &image, &tables, SLIDE);
    assert_eq!(held.bytes[SITES[0] as usize..][..LEN], site);
}
