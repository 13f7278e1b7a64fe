#![no_main]
use libfuzzer_sys::fuzz_target;
use pvops::image::kallsyms::{Region, Symbols};

// The first byte chooses the word; the rest is .rodata, after a little code.
fuzz_target!(|data: &[u8]| {
    let Some((&word, bytes)) = data.split_first() else { return };
    let text = Region { name: ".text", address: 0x1000_0000, bytes: &[0xcc; 4096], executable: true };
    let rodata = Region { name: ".rodata", address: 0x2000_0000, bytes, executable: false };
    let Ok(Some(symbols)) = Symbols::find(&[text, rodata], if word & 1 == 0 { 8 } else { 4 }) else { return };
    symbols.iter().for_each(|(address, _, name)| assert!(symbols.addresses_of(name).any(|a| a == address)));
});
