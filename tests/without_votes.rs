//! Sites that hold no legal form: of what no other site tells, the nearer form decides, so that the bytes that were changed
//! are reported and no other.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod elfwriter;
mod verify_support;

use pvops::image::Bits;
use pvops::insn;
use pvops::plan::Boot;
use pvops::sites::{Alternative, AlternativeTable, alternatives};
use pvops::verify::{Known, Report};
use verify_support::{Made, TEXT, at, made, put};

const ERA: &str = "6.1";
/// A feature that one site hangs on: with it `plain` begins with the code of `traced`.
const FEATURE: u16 = 40;

/// The image with a row of five bytes for `FEATURE` at `plain`.
fn keyed() -> Made {
    let mut made = made();
    let row = Alternative {
        address: at("plain"),
        replacement: at("quiet") + 6,
        feature: FEATURE,
        inverted: false,
        direct_call: false,
        len: 6,
        replacement_len: 5,
        pad: 0,
    };
    made.tables.alternatives =
        Some(AlternativeTable { layout: alternatives::Layout::of_2007(Bits::B64), rows: vec![row] });
    made
}

/// The bytes that are reported, and what they should be.
fn reported(report: &Report) -> Vec<(u64, u8)> {
    let bytes = report.unexplained.iter().flat_map(|run| {
        let pairs = (run.address..).zip(run.found.iter().zip(&run.expected));
        pairs.filter(|(_, (is, should))| is != should).map(|(at, (_, should))| (at, *should))
    });
    bytes.collect()
}

#[test]
fn one_byte_of_the_only_site_of_a_feature_is_one_byte() {
    let made = keyed();
    for on in [false, true] {
        let mut features = vec![0; 32];
        features[usize::from(FEATURE / 32)] = u32::from(on) << (FEATURE % 32);
        let clean = made.booted_on(ERA, &Boot { features, ..Boot::default() });
        let judged = |memory: &[u8]| made.judged(ERA, memory, &Known::default());
        assert_eq!(reported(&judged(&clean)), []);
        for place in at("plain")..at("plain") + 6 {
            let offset = (place - TEXT) as usize;
            let mut memory = clean.clone();
            memory[offset] ^= 0x55;
            let report = judged(&memory);
            assert_eq!(reported(&report), [(place, clean[offset])], "{on}");
            assert_eq!(report.state.has(FEATURE), on);
        }
    }
}

/// Memory where the static call goes to this address.
fn calling(made: &Made, target: u64) -> Vec<u8> {
    let mut memory = made.booted(ERA);
    put(&mut memory, at("calling"), &insn::call(at("calling"), target));
    put(&mut memory, at("__SCT__hook"), &insn::jmp(at("__SCT__hook"), target));
    memory
}

#[test]
fn of_two_that_say_different_things_of_a_call_the_image_is_asked() {
    let made = made();
    // Built for `plain`; the site and the trampoline, in turns, go to another function.
    for (place, opcode) in [(at("calling"), insn::CALL), (at("__SCT__hook"), insn::JMP)] {
        for other in ["traced", "short", "xen_iret"] {
            let mut memory = calling(&made, at("plain"));
            let mut branch = insn::call(place, at(other));
            branch[0] = opcode;
            put(&mut memory, place, &branch);
            let report = made.judged(ERA, &memory, &Known::default());
            let [run] = &report.unexplained[..] else { panic!("{report:x?}") };
            assert!((place..place + 5).contains(&run.address), "{other}");
            assert_eq!(run.suspects.len(), 2);
        }
    }
}

#[test]
fn no_call_goes_to_the_trampoline_of_another() {
    let made = made();
    let place = at("__SCT__hook");
    // A trampoline alone decides where calls of modules go: only a function is believed.
    let memory = calling(&made, place);
    let report = made.judged(ERA, &memory, &Known::default());
    assert!(!report.unexplained.is_empty());
    assert_ne!(report.votes.iter().find(|vote| vote.value == place).map(|vote| vote.value), Some(place));
}
