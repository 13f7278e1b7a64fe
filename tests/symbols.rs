//! Symbols of real kernels, and round trips through every layout of kallsyms.

mod symbols_support;

use pvops::image::kallsyms::Symbols;
use symbols_support::{open, regions};

const AMD64: [(&str, u64); 4] = [
    ("5.10.0-46-amd64", 0xffff_ffff_8263_3120),
    ("6.1.0-56-amd64", 0xffff_ffff_82a3_b680),
    ("6.12.117+deb12-amd64", 0),
    ("7.2.13+deb14-amd64", 0),
];

#[test]
fn real_kernels() {
    for (name, pv_ops) in AMD64 {
        let Some((sections, word)) = open(name) else { return };
        let start = std::time::Instant::now();
        let symbols = Symbols::find(&regions(&sections), word).unwrap().unwrap();
        println!("{name} {} {:?}", symbols.len(), start.elapsed());
        println!("{:x?} {:x?}", symbols.address_of("pv_ops"), pv_ops);
        println!("{:x?}", symbols.address_of("_text"));
        println!("{:?}", symbols.at(0xffffffff81000000));
        println!("{:?}", symbols.iter().take(3).collect::<Vec<_>>());
    }
    for name in ["5.10.0-30-686-pae", "6.1.0-50-686-pae"] {
        let Some((sections, word)) = open(name) else { return };
        let start = std::time::Instant::now();
        let symbols = Symbols::find(&regions(&sections), word).unwrap().unwrap();
        println!("{name} {} {:?}", symbols.len(), start.elapsed());
        println!("{:x?}", symbols.address_of("native_io_delay"));
        println!("{:x?}", symbols.iter().next());
    }
}
