//! Every byte of `.text` of recorded boots (`PVOPS_KERNELS`) is explained, from the memory and the image alone.

#![allow(clippy::expect_used)] // a test's input is there, or the test fails

mod boots_support;

use boots_support::{all, brief, kernel, rules};
use pvops::plan::Memory;
use pvops::sites::Tables;
use pvops::verify::{Known, Verifier, View};

#[test]
fn every_byte_of_every_boot_is_explained() {
    let mut bad = Vec::new();
    let mut all = all();
    if let Ok(only) = std::env::var("ONLY") { all.retain(|b| format!("{}~{}", b.kernel, b.mode).contains(&only)); }
    for recorded in all {
        let image = kernel(&recorded.kernel);
        let tables = Tables::read(&image).expect("real tables are valid");
        let memory = recorded.memory(&image);
        let t = std::time::Instant::now();
        let verifier =
            Verifier::new(&image, &tables, rules(&recorded.kernel), brief(&recorded.kernel, &image), Memory::of(&image))
                .expect("a sheet");
        let t1 = t.elapsed();
        let view = View::new(verifier.text(), &memory, &[]).expect("a view");
        let t = std::time::Instant::now();
        let report = verifier.verify(&view, &Known::default());
        let name = format!("{}~{}", recorded.kernel, recorded.mode);
        eprintln!("{name}: {} strays, {:?} {:?} {:?}", report.strays.len(), t1, t.elapsed(), report.explained.iter().map(|e| (e.pass.name(), e.bytes)).collect::<Vec<_>>());
        for stray in report.strays.iter().take(10) {
            eprintln!("   {:#x} {:02x?} {:02x?} {:?} {:?} {:?}", stray.address, stray.expected, stray.found, stray.pass, stray.owner, stray.nearest);
        }
        if !report.strays.is_empty() {
            bad.push(name);
        }
    }
    assert!(bad.is_empty(), "not explained: {bad:?}");
}
