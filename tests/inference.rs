//! What the verifier takes for known, on images made by code: what settles an unknown, and what a machine's word does.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod elfwriter;
mod verify_support;

use std::collections::HashMap;

use pvops::ErrorKind;
use pvops::image::{Bits, Image};
use pvops::insn::{self, K8_NOPS, P6_NOPS};
use pvops::plan::Guess;
use pvops::plan::passes::Pass;
use pvops::plan::{self, Boot, Rules};
use pvops::sites::{Alternative, AlternativeTable, Tables, alternatives};
use pvops::verify::{FeatureNumbers, KernelInfo, Known, PossibleBackend, Report};
use verify_support::{DATA, HOOK, Made, OUTSIDE, TEXT, XENPV, at, info, made, put};

const ERA: &str = "6.1";
const NONE: [u64; 0] = [];

fn addresses(report: &Report) -> Vec<u64> {
    report.unexplained.iter().map(|run| run.address).collect()
}

#[test]
fn what_the_machine_settles_is_settled_for_every_rule() {
    let made = made();
    let mut memory = made.booted(ERA);
    let place = at("early_xen_iret_patch");
    put(&mut memory, place, &insn::jmp(place, at("xen_iret")));
    let known = |on| Known { features: HashMap::from([(XENPV, on)]), ..Known::default() };
    // No site tells whether this is Xen, so the jump is its own witness; a machine's word is another.
    assert_eq!(addresses(&made.judged(ERA, &memory, &Known::default())), NONE);
    assert_eq!(addresses(&made.judged(ERA, &memory, &known(true))), NONE);
    assert_eq!(made.judged(ERA, &memory, &known(false)).unexplained.len(), 1);
    assert_eq!(made.judged(ERA, &made.booted(ERA), &known(true)).unexplained.len(), 1);
}

#[test]
fn who_knows_more_passes_no_more() {
    let made = made();
    let clean = made.booted(ERA);
    let right = Known {
        uniprocessor: Some(false),
        nops: Some(Boot::default().nops),
        features: HashMap::from([(XENPV, false)]),
        keys: HashMap::from([(DATA + 8, false)]),
        calls: HashMap::from([(HOOK, at("plain"))]),
        ..Known::default()
    };
    assert_eq!(addresses(&made.judged(ERA, &clean, &right)), NONE);
    for offset in 0..clean.len() {
        let mut memory = clean.clone();
        memory[offset] ^= 0x10;
        let without = made.judged(ERA, &memory, &Known::default());
        let with = made.judged(ERA, &memory, &right);
        let changed = |report: &Report| report.unexplained.iter().any(|run| run.wrong > 0);
        assert!(changed(&with), "offset {offset:#x}");
        assert!(!changed(&without) || changed(&with), "offset {offset:#x}");
    }
}

#[test]
fn without_calls_of_a_tracer_every_nopped_site_votes_for_the_nops() {
    let mut made = made();
    made.tables.mcount.clear();
    for nops in [&K8_NOPS, &P6_NOPS] {
        let memory = made.booted_on("5.10", &Boot { features: vec![0; 32], nops, ..Boot::default() });
        let info = KernelInfo { nops: vec![&K8_NOPS, &P6_NOPS], ..info() };
        let report = made.judged_as("5.10", info, &memory, &Known::default());
        assert_eq!(addresses(&report), NONE);
        // As built the label has P6's: a site that was not changed is silent.
        if nops.name == K8_NOPS.name {
            assert_eq!(report.state.nops.name, nops.name);
        }
    }
}

#[test]
fn a_trampoline_of_hid_bpf_is_explained_at_its_place_and_with_its_tracer_only() {
    let made = made();
    let (head, tracer) = (at("__hid_bpf_tail_call"), at("ftrace_caller"));
    let (call, list) = (insn::call(head, OUTSIDE), insn::call(tracer, at("arch_ftrace_ops_list_func")));
    let mut memory = made.booted(ERA);
    put(&mut memory, head, &call);
    assert_eq!(addresses(&made.judged(ERA, &memory, &Known::default())), [head]);
    put(&mut memory, tracer, &list);
    assert_eq!(addresses(&made.judged(ERA, &memory, &Known::default())), NONE);
    let other = at("traced");
    put(&mut memory, other, &insn::call(other, OUTSIDE));
    assert_eq!(addresses(&made.judged(ERA, &memory, &Known::default())), [other]);
}

#[test]
fn what_hid_bpf_attaches_is_planned_where_it_is_told_and_declared_open_where_not() {
    let made = made();
    let (head, tracer) = (at("__hid_bpf_tail_call"), at("ftrace_caller"));
    let mut memory = made.booted(ERA);
    put(&mut memory, head, &insn::call(head, OUTSIDE));
    put(&mut memory, tracer, &insn::call(tracer, at("arch_ftrace_ops_list_func")));
    assert_eq!(made.booted_on(ERA, &Boot { hid_bpf: Some(OUTSIDE), ..Boot::default() }), memory);
    let rules = Rules::by_name(ERA).unwrap();
    let guesses = |hid_bpf| {
        let plan = plan::boot(&made.image, &made.tables, &Boot { hid_bpf, ..Boot::default() }, rules).unwrap();
        let ours = plan.guesses().iter().filter(|guess| guess.pass == Pass::Mcount);
        let held = |guess: &Guess| &memory[(guess.address - TEXT) as usize..][..usize::from(guess.len)];
        ours.map(|guess| (guess.address, guess.len, plan.admits(guess, held(guess), |_| true))).collect::<Vec<_>>()
    };
    let mut expected = vec![(head, 5, true), (tracer + 1, 4, true)];
    expected.sort_unstable();
    assert_eq!(guesses(None), expected);
    assert_eq!(guesses(Some(OUTSIDE)), []);
}

fn backend(name: &str, functions: &[&str]) -> PossibleBackend {
    let calls = if functions.is_empty() {
        HashMap::new()
    } else {
        HashMap::from([(HOOK, functions.iter().map(|f| at(f)).collect())])
    };
    PossibleBackend { name: name.to_owned(), calls, ..PossibleBackend::default() }
}

/// Memory where the static call goes to this address.
fn calling(made: &Made, target: u64) -> Vec<u8> {
    let mut memory = made.booted(ERA);
    put(&mut memory, at("calling"), &insn::call(at("calling"), target));
    put(&mut memory, at("__SCT__hook"), &insn::jmp(at("__SCT__hook"), target));
    memory
}

fn label(made: &Made, backends: Vec<PossibleBackend>, memory: &[u8], known: &Known) -> Vec<String> {
    made.judged_as(ERA, KernelInfo { backends, ..info() }, memory, known).backends
}

#[test]
fn of_backends_that_explain_as_much_the_one_that_allows_least_is_the_label() {
    let made = made();
    let all = || vec![backend("native", &[]), backend("pv", &["traced", "short"]), backend("hvm", &["traced"])];
    let none = Known::default();
    assert_eq!(label(&made, all(), &made.booted(ERA), &none), ["native"]);
    assert_eq!(label(&made, all(), &calling(&made, at("traced")), &none), ["hvm"]);
    assert_eq!(label(&made, all(), &calling(&made, at("short")), &none), ["pv"]);
    let twins = vec![backend("native", &[]), backend("one", &["traced"]), backend("other", &["traced"])];
    assert_eq!(label(&made, twins, &calling(&made, at("traced")), &none), ["one", "other"]);
    let given = Known { backend: Some("pv".to_owned()), ..Known::default() };
    assert_eq!(label(&made, all(), &calling(&made, at("traced")), &given), ["pv"]);
}

#[test]
fn a_hypercall_page_that_xen_filled_is_of_its_guest_whatever_slots_hold() {
    let stub = |code: &[u8]| [code, &[0xcc; 32][code.len()..]].concat();
    let built = stub(b"\xc3").repeat(128);
    // Number 23 is iret, which is no hypercall there.
    let filled = |number: u32| match number {
        23 => stub(b"\x0f\x0b"),
        _ => stub(&[&[0xb8][..], &number.to_le_bytes(), b"\x0f\x01\xd9\xc3"].concat()),
    };
    let text = elfwriter::ElfWriter::new(Bits::B64).section(".text", TEXT, elfwriter::flags::TEXT, &built);
    let names = [("_text", TEXT), ("hypercall_page", TEXT), ("_etext", TEXT + built.len() as u64)];
    let file = names.iter().fold(text, |file, (name, address)| file.symbol(name, *address, 0, 'T'));
    let image = Image::from_bytes("made", file.build()).unwrap();
    let made = Made { tables: Tables::read(&image).unwrap(), image };
    let all = || vec![backend("native", &[]), backend("xen-hvm", &["traced"])];
    let none = Known::default();
    assert_eq!(label(&made, all(), &(0..128).flat_map(filled).collect::<Vec<_>>(), &none), ["xen-hvm"]);
    assert_eq!(label(&made, all(), &built, &none), ["native"]);
}

/// What Xen's hypercall_page_initialise_ring1_kernel() writes: `int $0x82`; number 23, iret, finds %eax on the stack.
#[test]
fn a_pv_guest_of_32_bits_calls_xen_by_an_interrupt() {
    const LOW: u64 = 0xc100_0000;
    let stub = |code: &[u8]| [code, &[0xcc; 32][code.len()..]].concat();
    let built = stub(b"\xc3").repeat(128);
    let filled = |number: u32| match number {
        23 => stub(&[&[0x50, 0xb8][..], &number.to_le_bytes(), b"\xcd\x82"].concat()),
        _ => stub(&[&[0xb8][..], &number.to_le_bytes(), b"\xcd\x82\xc3"].concat()),
    };
    let text = elfwriter::ElfWriter::new(Bits::B32).section(".text", LOW, elfwriter::flags::TEXT, &built);
    let names = [("_text", LOW), ("hypercall_page", LOW), ("_etext", LOW + built.len() as u64)];
    let file = names.iter().fold(text, |file, (name, address)| file.symbol(name, *address, 0, 'T'));
    let image = Image::from_bytes("made", file.build()).unwrap();
    let made = Made { tables: Tables::read(&image).unwrap(), image };
    let mut held = (0..128).flat_map(filled).collect::<Vec<_>>();
    assert_eq!(made.booted_on(ERA, &Boot { xen: true, features: vec![0; 32], ..Boot::default() }), held);
    let info = || KernelInfo { numbers: FeatureNumbers::default(), ..info() };
    let judged = |memory: &[u8]| made.judged_as(ERA, info(), memory, &Known::default());
    assert!(judged(&held).unexplained.is_empty());
    assert!(judged(&held).state.xen);
    assert!(!judged(&built).state.xen);
    held[5 * 32 + 6] ^= 1;
    assert_eq!(addresses(&judged(&held)), [LOW + 5 * 32 + 6]);
}

#[test]
fn a_backend_is_not_one_whose_feature_is_off() {
    let made = made();
    let needs = PossibleBackend { requires: Some(XENPV), ..backend("pv", &["traced"]) };
    let backends = || vec![backend("native", &[]), needs.clone(), backend("hvm", &["traced", "short"])];
    let memory = calling(&made, at("traced"));
    assert_eq!(label(&made, backends(), &memory, &Known::default()), ["pv"]);
    let off = Known { features: HashMap::from([(XENPV, false)]), ..Known::default() };
    assert_eq!(label(&made, backends(), &memory, &off), ["hvm"]);
}

#[test]
fn a_static_call_goes_to_a_function_and_not_to_the_preamble_of_one() {
    let made = made();
    let judged = |target| addresses(&made.judged(ERA, &calling(&made, target), &Known::default()));
    assert_eq!(judged(at("padded")), NONE);
    assert_eq!(judged(at("__cfi_plain")), [at("__SCT__hook") + 1, at("calling") + 1]);
    assert_eq!(judged(at("padded") + 1), [at("__SCT__hook") + 1, at("calling") + 1]);
}

#[test]
fn a_page_of_hypercalls_is_one_place_for_all_its_sites_and_needs_its_backend() {
    let made = made();
    let hyperv = || PossibleBackend { page: Some(HOOK), ..backend("hyperv", &[]) };
    let judged = |memory: &[u8], known: &Known| {
        made.judged_as(ERA, KernelInfo { backends: vec![backend("native", &[]), hyperv()], ..info() }, memory, known)
    };
    let given = Known { backend: Some("hyperv".to_owned()), ..Known::default() };
    let paged = calling(&made, OUTSIDE);
    assert_eq!(addresses(&judged(&paged, &given)), NONE);
    assert_eq!(judged(&paged, &Known::default()).unexplained.len(), 2);
    assert_eq!(judged(&calling(&made, OUTSIDE + 16), &given).unexplained.len(), 2);
    let mut torn = paged.clone();
    put(&mut torn, at("calling"), &insn::call(at("calling"), OUTSIDE + 4096));
    let report = judged(&torn, &given);
    assert_eq!(report.unexplained.len(), 1);
    assert_eq!(report.unexplained[0].suspects.len(), 2);
}

#[test]
fn a_direct_call_that_the_kernel_would_not_make_is_an_error_that_names_its_row() {
    let mut made = made();
    let place = at("plain");
    for (len, replacement_len) in [(4, 5), (6, 4), (0, 0), (5, 5)] {
        let row = Alternative {
            address: place,
            replacement: at("traced"),
            feature: 0,
            inverted: false,
            direct_call: true,
            len,
            replacement_len,
            pad: 0,
        };
        made.tables.alternatives =
            Some(AlternativeTable { layout: alternatives::Layout::of_2007(Bits::B64), rows: vec![row] });
        let error = made.verifier("6.12", info()).err().expect("an error");
        assert_eq!(error.kind, ErrorKind::Table);
        assert!(error.to_string().contains(".altinstructions row 0"), "{error}");
    }
}
