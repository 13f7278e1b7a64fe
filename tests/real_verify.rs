//! Every byte of `.text` of recorded boots (`PVOPS_KERNELS`) is explained, from the memory and the image alone.

#![allow(clippy::expect_used)] // a test's input is there, or the test fails
#![allow(clippy::duplicate_mod)] // what both examples declare

mod boots_support;
#[allow(dead_code)] // its main
#[path = "../examples/verify.rs"]
mod example;
#[allow(dead_code)] // its main
#[path = "../examples/boot.rs"]
mod planning;

use std::collections::HashMap;

use boots_support::{all, kernel};
use pvops::memory::Memory;
use pvops::plan::{Kind, Pass, Write};
use pvops::sites::Tables;
use pvops::verify::{Known, View};

/// One boot of each era where not all are asked for (`PVOPS_MUTATIONS=all`): Python's tests go through all of them.
const FEW: [&str; 4] = [
    "5.10.0-30-686-pae~native-qemu32-smp1",
    "6.1.0-56-amd64~xenpv-max-smp2",
    "6.12.117+deb12-amd64~native-epyc-smp2",
    "7.2.13+deb14-amd64~native-max-smp2-mitoff",
];

#[test]
fn every_byte_of_every_boot_is_explained() {
    let everything = std::env::var("PVOPS_MUTATIONS").is_ok_and(|value| value == "all");
    let mut bad = Vec::new();
    for recorded in all() {
        let name = format!("{}~{}", recorded.kernel, recorded.mode);
        if !everything && !FEW.contains(&name.as_str()) {
            continue;
        }
        let image = kernel(&recorded.kernel);
        let tables = Tables::read(&image).expect("real tables are valid");
        let memory = recorded.memory(&image);
        let verifier = recorded.verifier(&image, &tables);
        let view = View::new(verifier.text(), &memory, &[]).expect("a view");
        let report = verifier.verify(&view, &Known::default());
        let section = image.section(".text").expect(".text");
        let changed = image.section_bytes(section).iter().zip(&memory).filter(|(a, b)| a != b).count() as u64;
        let explained: u64 = report.explained.iter().map(|part| part.bytes).sum();
        eprintln!("{name}: {explained} of {changed} changed bytes explained, {} unexplained", report.unexplained.len());
        if !report.unexplained.is_empty() || explained != changed {
            bad.push(name);
        }
    }
    assert!(bad.is_empty(), "not explained: {bad:?}");
}

#[test]
fn the_example_explains_boots_of_what_it_declares() {
    for recorded in all() {
        if !["native-max-smp2", "kvm-max-smp2"].contains(&recorded.mode.as_str()) {
            continue;
        }
        let image = kernel(&recorded.kernel);
        let mut text = recorded.memory(&image);
        let clean = Memory::from_bytes("text", text.clone()).expect("memory");
        let (report, _) = example::judged(&image, &clean).expect("a report");
        assert_eq!(report.unexplained, [], "{}~{}", recorded.kernel, recorded.mode);
        text[0x10_0000] ^= 1;
        let changed = Memory::from_bytes("text", text).expect("memory");
        let (report, _) = example::judged(&image, &changed).expect("a report");
        assert_eq!(report.unexplained.len(), 1, "{}~{}", recorded.kernel, recorded.mode);
    }
}

#[test]
fn what_one_example_plans_the_other_explains() {
    for recorded in all() {
        if recorded.mode != "native-max-smp2" {
            continue;
        }
        let image = kernel(&recorded.kernel);
        let plan = planning::planned(&image).expect("a plan");
        let mut text = pvops::patch::text(&image, &plan).expect("text");
        // Every call of an op that no other pass changes is what it was in memory; of it nops are the CPU's. Since 6.8 these
        // calls are alternatives, of which a CPU's features choose others: those made direct are compared.
        let memory = recorded.memory(&image);
        let start = image.section(".text").expect(".text").address;
        let mut writes: HashMap<u64, Vec<_>> = HashMap::new();
        plan.writes().iter().for_each(|write| writes.entry(write.address).or_default().push(write));
        let of_paravirt = |written: &[&Write]| matches!(written, [write] if write.pass == Pass::Paravirt);
        let made_direct = |written: &[&Write]| {
            let last = written.last().is_some_and(|write| write.decision.kind == Kind::Called);
            last && written.iter().all(|write| write.pass == Pass::Alternatives)
        };
        let mut compared = 0;
        for (address, written) in writes {
            if !of_paravirt(&written) && !made_direct(&written) {
                continue;
            }
            let at = address.wrapping_sub(start) as usize;
            let used = written.last().map_or(0, |write| usize::from(write.decision.used));
            if let Some(held) = memory.get(at..at + used) {
                assert_eq!(text[at..at + used], *held, "{}: {address:#x}", recorded.kernel);
                compared += 1;
            }
        }
        assert!(compared > 50, "{}: only {compared} sites", recorded.kernel);
        eprintln!("{}: {compared} calls of ops", recorded.kernel);
        let judged = |text: &[u8]| {
            let memory = Memory::from_bytes("text", text.to_vec()).expect("memory");
            example::judged(&image, &memory).expect("a report").0.unexplained.len()
        };
        assert_eq!(judged(&text), 0, "{}", recorded.kernel);
        text[0x10_0000] ^= 1;
        assert_eq!(judged(&text), 1, "{}", recorded.kernel);
    }
}

#[test]
fn what_cannot_be_read_is_neither_wrong_nor_a_vote() {
    for recorded in
        all().into_iter().filter(|boot| boot.kernel.starts_with("6.1.0-56") && boot.mode == "native-max-smp2")
    {
        let image = kernel(&recorded.kernel);
        let tables = Tables::read(&image).expect("real tables are valid");
        let mut memory = recorded.memory(&image);
        let verifier = recorded.verifier(&image, &tables);
        let (start, end) = verifier.text();
        // Half of all pages, ends in the middle of sites.
        let unread: Vec<_> = (start..end).step_by(8192).map(|at| at + 3..(at + 4099).min(end)).collect();
        for gap in &unread {
            memory[(gap.start - start) as usize..(gap.end - start) as usize].fill(0);
        }
        let view = View::new(verifier.text(), &memory, &unread).expect("a view");
        let report = verifier.verify(&view, &Known::default());
        assert_eq!(report.unexplained, []);
        assert_eq!(report.unread, unread);
    }
}
