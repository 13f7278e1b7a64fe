//! Symbols and BTF of damaged and of malicious images: an answer or an error, soon, and never a panic.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod dice;
mod symbols_support;

use dice::Dice;
use pvops::image::btf::Btf;
use pvops::image::kallsyms::{Region, Symbols};
use std::time::{Duration, Instant};
use symbols_support::btf;
use symbols_support::kallsyms::{List, encode, layouts};

/// How long each mutator runs.
const TIME: Duration = Duration::from_secs(1);

fn find(tables: &[u8], word: usize) -> Option<Symbols> {
    let code = [0xcc; 4096];
    let regions = [
        Region { name: ".text", address: 0x1000_0000, bytes: &code, executable: true },
        Region { name: ".rodata", address: 0x2000_0000, bytes: tables, executable: false },
    ];
    let symbols = Symbols::find(&regions, word).ok().flatten()?;
    for (address, _, name) in symbols.iter().step_by(97) {
        assert!(symbols.addresses_of(name).any(|a| a == address));
        symbols.at(address);
    }
    Some(symbols)
}

fn seeds() -> Vec<(usize, Vec<u8>)> {
    let list: List = (0..600).map(|i| (0x1000_0000 + i * 4, format!("tname_{i}"))).collect();
    let all = [layouts(4), layouts(8)].concat();
    all.into_iter().map(|layout| (layout.word, encode(&list, layout, 0x2000_0000, b"lead").0)).collect()
}

#[test]
fn damaged_kallsyms_tables_never_panic() {
    let (seeds, mut dice, start, mut rounds) = (seeds(), Dice(1), Instant::now(), 0);
    assert!(seeds.iter().all(|(word, tables)| find(tables, *word).is_some()));
    while start.elapsed() < TIME {
        let (word, mut tables) = seeds[dice.below(seeds.len())].clone();
        dice.mutate(&mut tables);
        let one = Instant::now();
        find(&tables, word);
        assert!(one.elapsed() < Duration::from_millis(500), "slow after {rounds} rounds");
        rounds += 1;
    }
    println!("{rounds} rounds");
}

#[test]
fn a_region_at_the_end_of_the_address_space_does_not_overflow() {
    for (word, tables) in seeds() {
        for address in [u64::MAX, u64::MAX - 7, u64::MAX - tables.len() as u64, u64::from(u32::MAX) - 3] {
            let region = Region { name: ".rodata", address, bytes: &tables, executable: true };
            let _ = Symbols::find(&[region], word);
        }
    }
}

#[test]
fn damaged_btf_never_panics() {
    let (seed, mut dice, start, mut rounds) = (btf::template().finish(None), Dice(2), Instant::now(), 0);
    while start.elapsed() < TIME {
        let mut blob = seed.clone();
        dice.mutate(&mut blob);
        if let Ok(btf) = Btf::parse(&blob) {
            let _ = btf.flatten_pointers("paravirt_patch_template", 8);
            (0..20).for_each(|id| drop(btf.members(pvops::image::btf::TypeId(id))));
        }
        rounds += 1;
    }
    println!("{rounds} rounds");
}

/// Bytes that look like the start of a table over and over must not make the search quadratic.
#[test]
fn many_false_starts_end_soon() {
    const SIZE: usize = if cfg!(debug_assertions) { 2 << 20 } else { 16 << 20 };
    let (_, seed) = seeds().pop().unwrap();
    let (word, token_index) = (8, (0..256_u16).flat_map(|i| (i * 2).to_le_bytes()));
    let index: Vec<u8> = token_index.collect();
    let tables: Vec<u8> = (0..256).flat_map(|i| [b'a' + (i % 26) as u8, 0]).chain(index.iter().copied()).collect();
    let ramp: Vec<u8> = (0..64_u32).flat_map(|i| (i * 600).to_le_bytes()).collect();
    let small: Vec<u8> = 300_u64.to_le_bytes().to_vec();
    let fill = |pattern: &[u8]| pattern.iter().copied().cycle().take(SIZE).collect::<Vec<u8>>();
    let floods = [
        ("zeros", fill(&[0])),
        ("ones", fill(&[1])),
        ("token indexes", fill(&index)),
        ("token tables", fill(&tables)),
        ("markers", [fill(&ramp), tables.clone()].concat()),
        ("counts", [fill(&small), [0, 0, 0, 0, 0, 2, 0, 0].to_vec(), tables.clone()].concat()),
        ("zeros before a table", [fill(&[0]), tables.clone()].concat()),
        ("lengths of one", [fill(&[1, 0, 0, 0, 1, 1, 1, 1]), ramp, tables].concat()),
        ("whole images", fill(&seed)),
    ];
    for (what, bytes) in floods {
        let start = Instant::now();
        let _ = find(&bytes, word);
        let _ = find(&bytes, 4);
        let took = start.elapsed();
        println!("{what}: {took:?}");
        assert!(took < Duration::from_secs(if cfg!(debug_assertions) { 20 } else { 2 }), "{what}: {took:?}");
    }
}

#[test]
fn names_that_all_hash_alike_or_are_all_the_same_end_soon() {
    let list = (0..500_000).map(|i| ("same", i, pvops::image::kallsyms::SymbolKind::new(b't').unwrap()));
    let symbols = Symbols::from_list(list).unwrap();
    let start = Instant::now();
    assert_eq!(symbols.address_of("same"), Some(0));
    assert_eq!(symbols.addresses_of("same").count(), 500_000);
    assert!(start.elapsed() < Duration::from_secs(5));
}

/// Names that are right from every one of many places, with the right count before each, up to the last one.
#[test]
fn names_that_almost_fit_from_many_places_end_soon() {
    let count = 200_000_u32;
    let mut image = Vec::new();
    for _ in 0..count + 16_000 {
        image.extend_from_slice(b"\x07abc");
        image.extend_from_slice(&count.to_le_bytes());
    }
    (0..count.div_ceil(256)).for_each(|i| image.extend_from_slice(&(i * 2048).to_le_bytes()));
    (0..256_u32).for_each(|i| image.extend_from_slice(&[b'a' + (i % 26) as u8, 0]));
    (0..256_u16).for_each(|i| image.extend_from_slice(&(i * 2).to_le_bytes()));
    let rodata = Region { name: ".rodata", address: 0x2000_0000, bytes: &image, executable: false };
    let start = Instant::now();
    let error = Symbols::find(&[rodata], 4).unwrap_err();
    assert!(error.to_string().contains("kallsyms"), "{error}");
    println!("{error}: {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(if cfg!(debug_assertions) { 20 } else { 2 }));
}

/// One long string without an end, and members that all point into it.
#[test]
fn btf_names_without_end_are_errors() {
    let mut b = btf::Builder::default();
    let void = b.pointer(0);
    let long = "x".repeat(1 << 20);
    let members: Vec<(&str, u32, u32)> = (0..20_000).map(|i| ("", void, i * 64)).collect();
    let id = b.structure(&long, 1 << 20, &members);
    let mut blob = b.finish(None);
    let start = Instant::now();
    let at = blob.windows(4).position(|w| w == b"xxxx").unwrap();
    // Every member's name is the long one.
    let (types, count) = (24 + 12 + 12, members.len());
    (0..count).for_each(|i| blob[types + 12 * i..][..4].copy_from_slice(&1_u32.to_le_bytes()));
    assert!(at > types + 12 * count);
    assert!(Btf::parse(&blob).unwrap().members(pvops::image::btf::TypeId(id)).is_err());
    assert!(start.elapsed() < Duration::from_secs(2));
}
