//! Memory dumps, searched for a small kernel.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use pvops::image::Image;

/// An ELF file of nothing but a `.text` without order.
static IMAGE: LazyLock<Option<Image>> = LazyLock::new(|| {
    let names = b"\0.text\0.shstrtab\0";
    let text: Vec<u8> = (0..8192u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    let table = (64 + text.len() + names.len()).next_multiple_of(8);
    [0, 0, table as u64].iter().for_each(|word| file.extend(word.to_le_bytes()));
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, 0, 0, 64, 0, 3, 0, 2, 0]);
    file.extend(&text);
    file.extend(names);
    file.resize(table + 64, 0);
    let mut section = |name: u32, kind: u32, words: [u64; 4]| {
        [name, kind].iter().for_each(|word| file.extend(word.to_le_bytes()));
        words.iter().for_each(|word| file.extend(word.to_le_bytes()));
        file.extend([0; 24]);
    };
    section(1, 1, [6, 0xffff_ffff_8100_0000, 64, text.len() as u64]);
    section(7, 3, [0, 0, 64 + text.len() as u64, names.len() as u64]);
    Image::from_bytes("vmlinux", file).ok()
});

fuzz_target!(|data: &[u8]| {
    if let Some(image) = &*IMAGE {
        pvops::memory::exercise::open(image, data);
    }
});
