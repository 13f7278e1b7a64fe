//! The kernel's data without BTF: where they are is told by what they say, and by nothing that says too little.
#![allow(clippy::unwrap_used)]

mod elfwriter;
mod memory_support;
mod verify_support;

use elfwriter::{ElfWriter, flags};
use memory_support::{noise, read_from, rodata};
use pvops::Result;
use pvops::image::{Bits, Image};
use pvops::memory::{Memory, Reader};
use pvops::verify::{Heard, Known, Slots, Unknown, Vote, hear};
use verify_support::made;

const TEXT: u64 = 0xffff_ffff_8100_0000;
const RODATA: u64 = TEXT + 0x20_0000;
const DATA: u64 = TEXT + 0x40_0000;
/// `boot_cpu_data`, and how far into it the words of features are.
const CPU: u64 = DATA + 0x40;
const CAPABILITIES: u64 = 0x28;
const PATCHED: u64 = DATA + 0x10;
/// Numbers of features in the first four words, and whether the text was patched for them.
const FEATURES: [(u16, bool); 12] = [
    (0, true),
    (4, true),
    (9, false),
    (33, true),
    (40, false),
    (41, true),
    (64, true),
    (70, true),
    (77, false),
    (96, true),
    (101, false),
    (127, true),
];

/// The kernel; `named` says whether it names `boot_cpu_data`.
fn image(named: bool) -> Image {
    let mut writer = ElfWriter::new(Bits::B64)
        .section(".text", TEXT, flags::TEXT, &noise(1, 0x1000))
        .section(".rodata", RODATA, flags::RODATA, &rodata())
        .section(".data", DATA, flags::DATA, &[0; 0x1000])
        .symbol("alternatives_patched", PATCHED, 4, 'D');
    if named {
        writer = writer.symbol("boot_cpu_data", CPU, 0x100, 'D');
    }
    Image::from_bytes("vmlinux", writer.build()).unwrap()
}

/// Virtual memory: the kernel where it was linked, with these data.
struct Machine(Vec<u8>);

impl Reader for Machine {
    fn read(&self, address: u64, buffer: &mut [u8]) -> Result<bool> {
        Ok(read_from(&[(TEXT, &noise(1, 0x1000)), (RODATA, &rodata()), (DATA, &self.0)], address, buffer))
    }
}

/// Data of a kernel whose text was patched, all of them as the text is.
fn data() -> Vec<u8> {
    let mut data = vec![0; 0x1000];
    data[(PATCHED - DATA) as usize] = 1;
    for (number, there) in FEATURES {
        let bit = (CPU + CAPABILITIES - DATA) as usize * 8 + usize::from(number);
        data[bit / 8] |= u8::from(there) << (bit % 8);
    }
    data
}

fn heard(features: &[(u16, bool)], data: Vec<u8>) -> Heard {
    heard_of(&image(true), features, data)
}

fn heard_of(image: &Image, features: &[(u16, bool)], data: Vec<u8>) -> Heard {
    heard_by(image, features, data, false)
}

/// What is heard where sites say what features there are, or where the user does and nobody asks them.
fn heard_by(image: &Image, features: &[(u16, bool)], data: Vec<u8>, known: bool) -> Heard {
    let made = made();
    let mut report = made.judged("6.1", &made.booted("6.1"), &Known::default());
    report.votes = features
        .iter()
        .map(|&(number, there)| Vote {
            about: Unknown::Feature(number),
            value: there.into(),
            votes: if known { 0 } else { 2 },
            against: 0,
            known,
        })
        .collect();
    let memory = Memory::from_reader("<read>", Box::new(Machine(data)));
    let found = memory.find(image, &mut |_, _| Ok(())).unwrap();
    hear(&report, &[], &Slots::default(), (&memory, &found, image), Ok(&[])).unwrap()
}

#[test]
fn features_are_where_the_text_says_the_same() {
    let found = heard(&FEATURES, data());
    assert_eq!(found.counts, [("feature", 12), ("alternatives_patched", 1)]);
    assert!(found.disagreements.is_empty());
    assert_eq!(found.unheard, ["idt: nothing in the image tells where idt_table and def_idts are"]);
}

#[test]
fn one_that_was_changed_is_named_there() {
    for (named, known, feature, there) in [(true, false, 4, 1), (true, true, 4, 1), (false, true, 9, 0)] {
        let mut changed = data();
        changed[(CPU + CAPABILITIES - DATA) as usize + feature / 8] ^= 1 << (feature % 8);
        let found = heard_by(&image(named), &FEATURES, changed, known);
        let [wrong] = &found.disagreements[..] else { panic!("{named} {known}: {found:?}") };
        let expected = ("feature", CPU + CAPABILITIES, feature as u64, there, 1 - there);
        assert_eq!((wrong.what, wrong.address, wrong.which, wrong.expected, wrong.found), expected);
    }
}

#[test]
fn where_the_image_names_no_data_features_are_the_one_place_that_says_as_the_text() {
    let unnamed = |data| heard_of(&image(false), &FEATURES, data);
    assert_eq!(unnamed(data()).counts, [("feature", 12), ("alternatives_patched", 1)]);
    let mut changed = data();
    changed[(CPU + CAPABILITIES - DATA) as usize + 1] ^= 1 << 1;
    let found = unnamed(changed.clone());
    let [wrong] = &found.disagreements[..] else { panic!("{found:?}") };
    assert_eq!((wrong.address, wrong.which, wrong.expected, wrong.found), (CPU + CAPABILITIES, 9, 0, 1));
    // Two places that say it alike, or one that says too little, are not believed.
    let words = data()[(CPU + CAPABILITIES - DATA) as usize..][..16].to_vec();
    let mut twice = data();
    twice[0x400..0x410].copy_from_slice(&words);
    changed[(CPU + CAPABILITIES - DATA) as usize + 2..][..14].fill(0);
    for data in [twice, changed, vec![0; 0x1000]] {
        let found = unnamed(data);
        assert!(found.unheard[0].contains("no one place of .data"), "{found:?}");
        assert_eq!(found.counts.iter().filter(|(what, _)| *what == "feature").count(), 0);
    }
}

#[test]
fn text_that_says_too_little_tells_no_place() {
    for features in [&FEATURES[..7], &[]] {
        let found = heard(features, data());
        assert!(found.unheard[0].contains("no BTF"), "{found:?}");
        assert!(found.disagreements.is_empty());
    }
    // Nor does it where the data agree nowhere: they are not believed to be the ones.
    let mut noisy = data();
    noisy[(CPU - DATA) as usize..][..0x100].copy_from_slice(&noise(9, 0x100));
    assert!(heard(&FEATURES, noisy).unheard[0].contains("no place of boot_cpu_data"));
}

#[test]
fn a_kernel_that_says_it_never_patched_is_named() {
    let mut changed = data();
    changed[(PATCHED - DATA) as usize] = 0;
    let found = heard(&FEATURES, changed);
    assert_eq!(found.disagreements.len(), 1);
    assert_eq!((found.disagreements[0].what, found.disagreements[0].address), ("alternatives_patched", PATCHED));
}
