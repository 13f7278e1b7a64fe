//! Symbols of real kernels, and round trips through every layout of kallsyms.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod elfwriter;
mod symbols_support;

use elfwriter::{ElfWriter, flags};
use proptest::prelude::*;
use pvops::image::kallsyms::{Region, SymbolKind, Symbols};
use pvops::image::{Bits, Image};
use pvops::{ErrorKind, Result};
use symbols_support::kallsyms::{Addresses, Layout, List, encode, layouts};
use symbols_support::{open, regions, root};

/// Where made images have their code and their tables.
const PLACES: [(usize, u64, u64); 2] =
    [(4, 0xc100_0000, 0xc180_0000), (8, 0xffff_ffff_8100_0000, 0xffff_ffff_8200_0000)];

/// Finds the symbols of these tables, with 16 MB of code before them.
fn find(tables: &[u8], word: usize) -> Result<Option<Symbols>> {
    let (_, text, rodata) = PLACES[word / 8];
    let code = vec![0xcc; 0x80_0000];
    Symbols::find(
        &[
            Region { name: ".text", address: text, bytes: &code, executable: true },
            Region { name: ".rodata", address: rodata, bytes: tables, executable: false },
        ],
        word,
    )
}

/// This many symbols with names of many lengths; the first are per-CPU where the layout has absolute ones.
fn sample(count: usize, layout: Layout) -> List {
    let (_, text, _) = PLACES[layout.word / 8];
    let percpu = if layout.addresses == Addresses::RelativePercpu { count / 10 } else { 0 };
    let symbol = |i: usize| {
        let name = format!("{}_{:x}{}", ["native", "pv", "xen_mc", "__raw"][i % 4], i, "_init".repeat(i % 7));
        if i < percpu {
            (i as u64 * 8, format!("A{name}"))
        } else {
            (text + i as u64 * 16, format!("{}{name}", ["t", "T"][i % 2]))
        }
    };
    (0..count).map(symbol).collect()
}

fn assert_same(symbols: &Symbols, list: &List, what: &str) {
    let got: Vec<_> = symbols.iter().map(|(a, k, n)| (a, format!("{}{n}", k.letter()))).collect();
    assert!(got == *list, "{what}: {:x?} is not {:x?}", got.first(), list.first());
    for prefix in ["", "n", "pv_1", "__raw_3_init", "xen_mc_2_init_ini", "native_b", "other"] {
        let begin: Vec<_> = symbols.iter().filter(|s| s.2.starts_with(prefix)).map(|(a, _, n)| (a, n)).collect();
        assert_eq!(symbols.starting_with(prefix).collect::<Vec<_>>(), begin, "{what}, {prefix:?}");
    }
    for (address, name) in list.iter().step_by(41) {
        assert!(symbols.addresses_of(&name[1..]).any(|found| found == *address), "{what}: {name}");
    }
}

#[test]
fn every_layout_is_read_back() {
    for layout in [layouts(4), layouts(8)].concat() {
        for count in [5, 255, 256, 257, 300, 512, 1000, 2049] {
            let list = sample(count, layout);
            let (tables, _) = encode(&list, layout, PLACES[layout.word / 8].2, b"something else before");
            let what = format!("{count} symbols, {layout:?}");
            let symbols = find(&tables, layout.word).unwrap_or_else(|e| panic!("{what}: {e}")).expect(&what);
            assert_same(&symbols, &list, &what);
        }
    }
}

#[test]
fn the_base_need_not_be_listed() {
    // _text, which 4.8 lists only where KALLSYMS_ALL is set.
    for layout in [layouts(4), layouts(8)].concat().into_iter().filter(|l| l.addresses == Addresses::Relative) {
        let mut list = sample(300, layout);
        list.iter_mut().skip(1).for_each(|symbol| symbol.0 += 0x330);
        let (mut tables, places) = encode(&list, layout, PLACES[layout.word / 8].2, b"");
        let offsets = places.iter().find(|(name, _)| *name == "offsets").unwrap().1;
        tables[offsets..offsets + 4].copy_from_slice(&0x330_u32.to_le_bytes());
        list[0].0 += 0x330;
        assert_same(&find(&tables, layout.word).unwrap().unwrap(), &list, "without _text");
    }
}

#[test]
fn a_list_of_bounds_names_no_function() {
    let layout = layouts(8)[6];
    let text = vec![0xcc; 0x80_0000];
    for (count, named) in [(6, false), (127, false), (128, true)] {
        let (tables, _) = encode(&sample(count, layout), layout, PLACES[1].2, b"");
        let file = ElfWriter::new(Bits::B64).section(".text", PLACES[1].1, flags::TEXT, &text);
        let file = file.section(".rodata", PLACES[1].2, flags::RODATA, &tables).build();
        let image = Image::from_bytes("made", file).unwrap();
        assert_eq!(image.symbols().unwrap().map(Symbols::len), named.then_some(count), "{count} of 8 MiB");
    }
}

#[test]
fn since_7_0_tables_may_be_aligned_to_32_bits() {
    let layout = Layout { word: 8, addresses: Addresses::Place, after: true, seqs: true, wide_markers: false };
    for count in [257, 1000, 1300] {
        let list = sample(count, layout);
        // The encoder aligns to a word of 4 bytes; addresses are place-relative, so their width does not matter.
        let (tables, _) = encode(&list, Layout { word: 4, ..layout }, PLACES[1].2, b"12345");
        assert_same(&find(&tables, 8).unwrap().unwrap(), &list, "7.0");
    }
}

#[test]
fn an_odd_section_address_only_shifts_the_tables() {
    let layout = layouts(8)[6];
    let list = sample(700, layout);
    let (tables, _) = encode(&list, layout, PLACES[1].2 + 3, b"");
    let code = vec![0; 0x80_0000];
    let text = Region { name: ".text", address: PLACES[1].1, bytes: &code, executable: true };
    let data = Region { name: "odd", address: PLACES[1].2 + 3, bytes: &tables, executable: false };
    assert_same(&Symbols::find(&[text, data], 8).unwrap().unwrap(), &list, "odd");
}

#[test]
fn names_of_more_than_127_tokens_have_lengths_of_two_bytes() {
    let layout = layouts(8)[6];
    let mut list = sample(400, layout);
    let noise = |i: usize, n: usize| {
        (0..n).map(|j| (b'a' + ((i * 7 + j * j * 13 + j / 3) % 26) as u8) as char).collect::<String>()
    };
    for (i, symbol) in list.iter_mut().enumerate().skip(100).take(40) {
        symbol.1.push_str(&noise(i, 450));
    }
    let (tables, _) = encode(&list, layout, PLACES[1].2, b"");
    assert_same(&find(&tables, 8).unwrap().unwrap(), &list, "long names");
}

#[test]
fn no_tables_no_symbols() {
    assert_eq!(find(&[], 8), Ok(None));
    assert_eq!(find(&[0; 5000], 8), Ok(None));
    let identity: Vec<u8> = (0..256_u16).flat_map(u16::to_le_bytes).collect();
    assert_eq!(find(&[vec![0; 2000], identity].concat(), 8), Ok(None));
    assert_eq!(Symbols::find(&[], 2).unwrap_err().kind, ErrorKind::Image);
}

#[test]
fn each_table_that_lies_is_an_error() {
    for layout in [layouts(4), layouts(8)].concat() {
        let list = sample(1000, layout);
        let (good, places) = encode(&list, layout, PLACES[layout.word / 8].2, b"lead");
        for (name, at) in places {
            let at = match name {
                "end" => continue,
                // Ranks after the token index are not needed, and not read.
                "seqs" if layout.after => continue,
                "offsets" => at + 500 * 4 + 3,
                "markers" => at + 4,
                _ => at,
            };
            let mut bad = good.clone();
            bad[at] ^= 0x55;
            match find(&bad, layout.word) {
                Err(error) => {
                    assert_eq!(error.kind, ErrorKind::Image);
                    assert_eq!(error.place.section.as_deref(), Some(".rodata"), "{name} of {layout:?}");
                }
                // Without its token tables the rest cannot be recognised. A damaged base may still look like one.
                Ok(None) => assert!(name.starts_with("token"), "{name} of {layout:?}"),
                Ok(Some(_)) => assert!(["token_table", "relative_base"].contains(&name), "{name} of {layout:?}"),
            }
        }
    }
}

#[test]
fn two_different_tables_are_an_error() {
    let layout = layouts(8)[5];
    let (mut one, _) = encode(&sample(300, layout), layout, PLACES[1].2, b"");
    one.resize(one.len().next_multiple_of(8), 0);
    let (two, _) = encode(&sample(301, layout), layout, PLACES[1].2, &one);
    assert!(find(&two, 8).unwrap_err().to_string().contains("two different readings"));
}

#[test]
fn text_symbols_outside_code_are_an_error() {
    let layout = layouts(8)[5];
    let list = sample(300, layout).into_iter().map(|(a, n)| (a + 0x1000_0000, n)).collect();
    let (tables, _) = encode(&list, layout, PLACES[1].2, b"");
    assert!(find(&tables, 8).unwrap_err().to_string().contains("text symbols in code"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn generated_symbols_are_read_back(
        layout in prop::sample::select([layouts(4), layouts(8)].concat()),
        symbols in prop::collection::vec((0..0x2000_u64, "[tTwWdDbBrR]", "[a-zA-Z_][a-zA-Z0-9_.]{0,40}"), 30..600),
        lead in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let (word, text, rodata) = PLACES[layout.word / 8];
        let mut list: List = symbols.into_iter().map(|(at, kind, name)| (text + at, kind + &name)).collect();
        list.sort_by_key(|s| s.0);
        // An image whose symbols are all data tells nothing about its code.
        list[0].1.replace_range(..1, "T");
        let (tables, _) = encode(&list, layout, rodata, &lead);
        let found = find(&tables, word);
        let symbols = found.map_err(|e| TestCaseError::fail(e.to_string()))?.expect("there are tables");
        prop_assert_eq!(symbols.iter().map(|(a, k, n)| (a, format!("{}{n}", k.letter()))).collect::<List>(), list.clone());
        for (address, name) in &list {
            prop_assert!(symbols.addresses_of(&name[1..]).any(|a| a == *address));
            prop_assert!(symbols.at(*address).is_some_and(|(_, offset)| offset == 0));
        }
    }
}

/// Names and their first word in `boots/*.json`, without a JSON parser: what the kernel itself held in `pv_ops`.
fn slots(boot: &str) -> (u64, Vec<String>) {
    let pv_ops = boot.split_once("\"pv_ops\": {").unwrap().1;
    let address = pv_ops.split_once("\"address\": \"0x").unwrap().1.split_once('"').unwrap().0;
    let slots = pv_ops.split_once("\"slots\": [").unwrap().1.split_once(']').unwrap().0;
    let names = slots.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    (u64::from_str_radix(address, 16).unwrap(), names)
}

#[test]
fn real_kernels_have_the_symbols_their_boots_showed() {
    let kernels_known = [
        ("5.10.0-46-amd64", 105_158),
        ("6.1.0-56-amd64", 94_266),
        ("6.12.117+deb12-amd64", 163_205),
        ("7.2.13+deb14-amd64", 199_097),
    ];
    for (name, count) in kernels_known {
        let Some((sections, word)) = open(name) else { return };
        let symbols = Symbols::find(&regions(&sections), word).unwrap().unwrap();
        assert_eq!(symbols.len(), count, "{name}");
        assert_eq!(symbols.address_of("_text"), Some(0xffff_ffff_8100_0000), "{name}");
        assert!(symbols.address_of("native_io_delay").is_some() || name.starts_with("7."), "{name}");
        assert!(symbols.addresses_of("__func__.0").count() != 1, "{name}");
        let code = |address: u64| sections.iter().any(|s| s.3 && (s.1..s.1 + s.2.len() as u64).contains(&address));
        let mut boots = 0;
        for boot in std::fs::read_dir(root().unwrap().join("boots")).unwrap() {
            let path = boot.unwrap().path();
            let file = path.file_name().unwrap().to_string_lossy();
            if !file.starts_with(&format!("{name}~")) || !file.ends_with(".json") {
                continue;
            }
            let (address, slots) = slots(&std::fs::read_to_string(&path).unwrap());
            assert_eq!(symbols.address_of("pv_ops"), Some(address), "{file}");
            assert!(slots.len() > 50, "{file}");
            for slot in slots {
                let (symbol, offset) = slot.split_once('+').unwrap_or((&slot, "0"));
                let address = symbols.address_of(symbol).unwrap_or_else(|| panic!("{file}: no {slot}"));
                assert!(code(address), "{file}: {slot} at {address:#x}, +{offset}");
            }
            boots += 1;
        }
        assert!(boots > 0, "{name} has boots");
    }
}

#[test]
fn kernels_of_32_bits_have_functions_only() {
    for (name, count) in [("5.10.0-30-686-pae", 41_738), ("6.1.0-50-686-pae", 45_515)] {
        let Some((sections, word)) = open(name) else { return };
        let symbols = Symbols::find(&regions(&sections), word).unwrap().unwrap();
        assert_eq!((symbols.len(), symbols.address_of("pv_ops")), (count, None), "{name}");
        let (text, size) = sections.iter().find(|s| s.0 == ".text").map(|s| (s.1, s.2.len() as u64)).unwrap();
        let delay = symbols.address_of("native_io_delay").unwrap();
        assert!((text..text + size).contains(&delay), "{name}");
        assert_eq!(symbols.at(delay + 1), Some(("native_io_delay", 1)), "{name}");
        assert_eq!(symbols.at(text), Some(("startup_32", 0)), "{name}");
    }
}

#[test]
fn real_names_are_found_by_address_and_by_name() {
    let Some((sections, word)) = open("6.1.0-56-amd64") else { return };
    let symbols = Symbols::find(&regions(&sections), word).unwrap().unwrap();
    for (address, kind, name) in symbols.iter().filter(|s| s.1.is_place()) {
        assert!(symbols.addresses_of(name).any(|a| a == address), "{name} {kind:?}");
        assert_eq!(symbols.at(address).map(|at| at.1), Some(0), "{name}");
    }
    let kind = |name: &str| symbols.iter().find(|s| s.2 == name).map(|s| s.1);
    assert_eq!(kind("pv_ops"), SymbolKind::new(b'D'));
    assert_eq!(symbols.at(symbols.address_of("_stext").unwrap()), Some(("startup_64", 0)));
}
