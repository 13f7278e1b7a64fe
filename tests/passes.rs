//! The passes over code made up for the purpose: what no recorded boot has, and what stops a kernel.

#![allow(clippy::expect_used)] // no BUG where none is expected

use pvops::image::Bits;
use pvops::insn::{X86_11_NOPS, X86_NOPS};
use pvops::plan::{Boot, Forms, Landmarks, LoadedCode, Plan, Rules, Run};
use pvops::sites::static_calls::StaticCall;
use pvops::sites::{AddressTable, Alternative, AlternativeTable, Tables, alternatives};
use pvops::{ErrorKind, Result};

const TEXT: u64 = 0xffff_ffff_8100_0000;
const REPLACEMENTS: u64 = 0xffff_ffff_8200_0000;
const THUNKS: u64 = TEXT + 0x1000;
const SLOTS: u64 = 0xffff_ffff_8300_0000;
const BUG_FUNC: u64 = TEXT + 0x2000;
const NOP_FUNC: u64 = TEXT + 0x2010;

fn row(address: u64, len: u8, replacement: u64, replacement_len: u8) -> Alternative {
    Alternative { address, replacement, feature: 0, inverted: false, direct_call: false, len, replacement_len, pad: 0 }
}

fn run(era: &str, text: &[u8], replacements: &[u8], tables: &Tables, boot: &Boot) -> Result<(Plan, LoadedCode)> {
    let marks = Landmarks {
        text: (TEXT, TEXT + 0x10000),
        indirect_thunks: Some(THUNKS),
        return_thunk: Some(TEXT + 0x4000),
        its_return_thunk: Some(TEXT + 0x4020),
        return0: Some(TEXT + 0x5000),
        static_call_return: Some(TEXT + 0x5010),
        bug: Some(BUG_FUNC),
        nop: Some(NOP_FUNC),
        ..Landmarks::default()
    };
    let memory = LoadedCode::new(Bits::B64, [(TEXT, text), (REPLACEMENTS, replacements)]);
    let zeros: &[u8] = &[0; 8];
    let data = |_, len: usize| zeros.get(..len);
    Run::new(memory, tables, &marks, boot, Rules::by_name(era)?, &data).all()
}

fn alternatives_of(rows: Vec<Alternative>) -> Tables {
    let layout = alternatives::Layout::of_2007(Bits::B64);
    Tables { alternatives: Some(AlternativeTable { layout, rows }), ..Tables::default() }
}

fn machine(features: u32) -> Boot {
    Boot { features: vec![features], nops: &X86_11_NOPS, ..Boot::default() }
}

fn patched(era: &str, text: &[u8], replacements: &[u8], rows: Vec<Alternative>, features: u32) -> Vec<u8> {
    let boot = Boot { nops: if era == "6.1" { &X86_NOPS } else { &X86_11_NOPS }, ..machine(features) };
    let (_, memory) = run(era, text, replacements, &alternatives_of(rows), &boot).expect("no BUG");
    memory.from(TEXT).to_vec()
}

fn bug(era: &str, text: &[u8], replacements: &[u8], rows: Vec<Alternative>, features: u32) -> String {
    let error = run(era, text, replacements, &alternatives_of(rows), &machine(features)).expect_err("a BUG");
    assert_eq!(error.kind, ErrorKind::Bug, "{error}");
    error.to_string()
}

#[test]
fn a_replacement_longer_than_its_site_stops_the_kernel_and_names_its_row() {
    let rows = vec![row(TEXT, 4, REPLACEMENTS, 4), row(TEXT + 4, 2, REPLACEMENTS, 4)];
    let message = bug("6.1", &[0x90; 16], &[0x90; 16], rows, 1);
    assert!(message.starts_with(".altinstructions row 1 (0xffffffff81000004): BUG: "), "{message}");
}

#[test]
fn a_feature_beyond_the_words_stops_the_kernel() {
    let rows = vec![Alternative { feature: 32, ..row(TEXT, 4, REPLACEMENTS, 4) }];
    assert!(bug("6.12", &[0x90; 16], &[0x90; 16], rows, 1).contains("row 0"));
}

#[test]
fn a_direct_call_row_on_anything_but_an_indirect_call_stops_the_kernel() {
    let call = pvops::insn::call(REPLACEMENTS, BUG_FUNC);
    let rows = vec![Alternative { direct_call: true, ..row(TEXT, 6, REPLACEMENTS, 5) }];
    for era in ["6.12", "7.2"] {
        let message = bug(era, b"\xff\x25\x00\x00\x00\x00", &call, rows.clone(), 1);
        assert!(message.contains("row 0") && message.contains("alt_replace_call"), "{message}");
        let message = bug(era, b"\xff\x15\x00\x00\x00\x00", &[0x90; 5], rows.clone(), 1);
        assert!(message.contains("is no call"), "{message}");
        let long = vec![Alternative { len: 255, ..rows[0] }];
        let message = bug(era, &[0x90; 255], &call, long, 1);
        assert!(message.contains(&format!("255 bytes that is no indirect call: {}…", "90 ".repeat(16))), "{message}");
    }
}

#[test]
fn a_direct_call_calls_what_its_pointer_holds() {
    let displacement = (SLOTS.wrapping_sub(TEXT + 6) as u32).to_le_bytes();
    let site = [&b"\xff\x15"[..], &displacement].concat();
    let call = pvops::insn::call(REPLACEMENTS, BUG_FUNC);
    let rows = vec![Alternative { direct_call: true, ..row(TEXT, 6, REPLACEMENTS, 5) }];
    for (holds, becomes) in [
        (TEXT + 0x100, [&pvops::insn::call(TEXT, TEXT + 0x100)[..], b"\x90"].concat()),
        (0, [&pvops::insn::call(TEXT, BUG_FUNC)[..], b"\x90"].concat()),
        (NOP_FUNC, b"\x66\x0f\x1f\x44\x00\x00".to_vec()),
    ] {
        let boot = Boot { pointers: [(SLOTS, holds)].into(), ..machine(1) };
        let tables = alternatives_of(rows.clone());
        let (_, memory) = run("6.12", &site, &call, &tables, &boot).expect("no BUG");
        assert_eq!(memory.from(TEXT), becomes, "{holds:#x}");
    }
}

#[test]
fn rows_of_one_site_share_the_longest_length_since_6_5() {
    let text = b"\xfb\x90\x90\x90\x90\x90\xc3";
    let rows = || vec![row(TEXT, 3, REPLACEMENTS, 1), Alternative { feature: 1, ..row(TEXT, 6, REPLACEMENTS, 1) }];
    // Only the first is taken: one byte of code, then nops over three bytes, or over six.
    assert_eq!(patched("6.1", text, b"\xfa", rows(), 1), b"\xfa\x66\x90\x0f\x1f\x00\xc3");
    assert_eq!(patched("6.12", text, b"\xfa", rows(), 1), b"\xfa\x0f\x1f\x44\x00\x00\xc3");
    assert_eq!(patched("7.2", text, b"\xfa", rows(), 1), b"\xfa\x0f\x1f\x44\x00\x00\xc3");
}

#[test]
fn applied_twice_is_applied_once_where_nothing_is_moved_by_a_read_of_the_site() {
    let text = b"\xfb\x90\x90\x66\x90\x90\xc3";
    for (era, features) in [("6.1", 0), ("6.1", 1), ("6.12", 0), ("6.12", 1), ("7.2", 0), ("7.2", 1)] {
        let once = patched(era, text, b"\xfa", vec![row(TEXT, 6, REPLACEMENTS, 1)], features);
        let twice = patched(era, &once, b"\xfa", vec![row(TEXT, 6, REPLACEMENTS, 1)], features);
        assert_eq!(once, twice, "{era}");
    }
}

#[test]
fn padding_of_5_10_0_becomes_nops_only_where_the_site_begins_with_it() {
    let padded = |era, text: &[u8], pad| {
        let rows = vec![Alternative { pad, ..row(TEXT, 5, REPLACEMENTS, 5) }];
        patched(era, text, &[0x90; 5], rows, 0)
    };
    assert_eq!(padded("5.10.0", b"\x90\x90\x90\x90\x90", 5), b"\x0f\x1f\x44\x00\x00");
    assert_eq!(padded("5.10.0", b"\xfb\x90\x90\x90\x90", 4), b"\xfb\x90\x90\x90\x90");
    // That of 3.16 stable becomes nops unseen, but for one byte of it.
    assert_eq!(padded("3.16", b"\xfb\x90\x90\x90\x90", 4), b"\xfb\x0f\x1f\x40\x00");
    assert_eq!(padded("3.16", b"\xfb\xfb\xfb\xfb\x90", 1), b"\xfb\xfb\xfb\xfb\x90");
}

fn retpoline(era: &str, site: &[u8], features: &[u16]) -> (Vec<u8>, Plan) {
    let mut words = vec![0u32; 32];
    for &feature in features {
        words[usize::from(feature / 32)] |= 1 << (feature % 32);
    }
    let boot = Boot {
        features: words,
        retpoline: Some(1),
        retpoline_lfence: Some(2),
        its: Some(3),
        nops: if era == "7.2" || era == "6.12" { &X86_11_NOPS } else { &X86_NOPS },
        ..Boot::default()
    };
    let tables = Tables {
        retpolines: AddressTable { section: ".retpoline_sites".to_owned(), sites: vec![TEXT] },
        ..Tables::default()
    };
    let (plan, memory) = run(era, site, &[0], &tables, &boot).expect("no BUG");
    (memory.from(TEXT).to_vec(), plan)
}

fn to_thunk(opcode: u8, register: u64) -> Vec<u8> {
    let mut code = pvops::insn::jmp(TEXT, THUNKS + 32 * register).to_vec();
    code[0] = opcode;
    code
}

#[test]
fn retpolines_stay_go_or_are_fenced() {
    let after = |era, site: &[u8], features: &[u16]| retpoline(era, site, features).0;
    let (call, jump) = (to_thunk(0xe8, 0), to_thunk(0xe9, 2));
    assert_eq!(after("6.1", &call, &[1]), call);
    assert_eq!(after("5.10", &call, &[]), b"\xff\xd0\x0f\x1f\x00");
    assert_eq!(after("5.10", &jump, &[]), b"\xff\xe2\x0f\x1f\x00");
    assert_eq!(after("6.1", &call, &[]), b"\xff\xd0\x0f\x1f\x00");
    assert_eq!(after("6.1", &jump, &[]), b"\xff\xe2\xcc\x66\x90");
    assert_eq!(after("6.15", &call, &[]), b"\xff\xd0\x0f\x1f\x00");
    for era in ["6.18", "7.2"] {
        assert_eq!(after(era, &call, &[]), b"\x2e\x2e\x2e\xff\xd0");
        assert_eq!(after(era, &jump, &[]), b"\xff\xe2\xcc\xcc\xcc");
    }
    assert_eq!(after("6.1", &call, &[1, 2]), b"\x0f\xae\xe8\xff\xd0");
    // A fence and a branch through %r9 are six bytes.
    assert_eq!(after("6.1", &to_thunk(0xe8, 9), &[1, 2]), to_thunk(0xe8, 9));
    assert_eq!(after("6.1", &to_thunk(0xe8, 9), &[]), b"\x41\xff\xd1\x66\x90");
}

#[test]
fn a_conditional_retpoline_turns_its_condition_round() {
    let mut site = vec![0x0f];
    let rel = (THUNKS + 32 * 3).wrapping_sub(TEXT + 6) as u32;
    site.push(0x84);
    site.extend(rel.to_le_bytes());
    assert_eq!(retpoline("6.1", &site, &[]).0, b"\x75\x04\xff\xe3\xcc\x90");
}

#[test]
fn an_its_thunk_lies_in_a_page_nobody_knows() {
    // TEXT + 1 is in the lower half of its cache line: the branch is unsafe.
    let (after, plan) = retpoline("6.12", &to_thunk(0xe8, 2), &[3]);
    // The first guess: the first page of the area of modules.
    assert_eq!(after, pvops::insn::call(TEXT, 0xffff_ffff_c000_0020));
    let [open] = plan.guesses() else { panic!("one site") };
    assert_eq!((open.address, open.len, &open.forms), (TEXT + 1, 4, &Forms::Thunk { page: 0, offset: 32 }));
    let found = pvops::insn::call(TEXT, 0xffff_ffff_a000_0020);
    assert!(plan.admits(open, &found[1..], |_| false));
    assert!(!plan.admits(open, &pvops::insn::call(TEXT, 0xffff_ffff_a000_0024)[1..], |_| false));
}

fn static_call(era: &str, site: &[u8], tail: bool, function: u64, rethunk: bool) -> Vec<u8> {
    static_call_beside(&[REPLACEMENTS], era, site, tail, function, rethunk)
}

/// A static call of a kernel whose table of returns lists these.
fn static_call_beside(returns: &[u64], era: &str, site: &[u8], tail: bool, function: u64, rethunk: bool) -> Vec<u8> {
    let tables = Tables {
        static_calls: vec![StaticCall { address: TEXT, key: SLOTS, tail }],
        returns: AddressTable { section: String::new(), sites: returns.to_vec() },
        ..Tables::default()
    };
    let boot = Boot {
        features: vec![2 * u32::from(rethunk)],
        rethunk: Some(1),
        nops: &X86_11_NOPS,
        static_calls: [(SLOTS, pvops::plan::Known { value: function, certain: true })].into(),
        ..Boot::default()
    };
    let (plan, memory) = run(era, site, &[0], &tables, &boot).expect("no BUG");
    assert!(plan.guesses().is_empty());
    memory.from(TEXT).to_vec()
}

#[test]
fn static_calls_take_every_form() {
    let (call, jump) = (pvops::insn::call(TEXT, TEXT + 0x100), pvops::insn::jmp(TEXT, TEXT + 0x100));
    let other = TEXT + 0x200;
    assert_eq!(static_call("6.12", &call, false, other, false), pvops::insn::call(TEXT, other));
    assert_eq!(static_call("6.12", &call, false, 0, false), b"\x0f\x1f\x44\x00\x00");
    assert_eq!(static_call("6.12", &call, false, TEXT + 0x5000, false), b"\x2e\x2e\x2e\x31\xc0");
    assert_eq!(static_call("5.10", &call, false, TEXT + 0x5000, false), pvops::insn::call(TEXT, TEXT + 0x5000));
    assert_eq!(static_call("6.12", &jump, true, other, false), pvops::insn::jmp(TEXT, other));
    // As built NULL: a ret, made before there is a thunk; done again since 6.5.
    assert_eq!(static_call("6.1", &jump, true, 0, true), b"\xc3\xcc\xcc\xcc\xcc");
    for era in ["6.5", "6.12"] {
        assert_eq!(static_call(era, &jump, true, 0, true), pvops::insn::jmp(TEXT, TEXT + 0x4000));
    }
    let conditional = b"\x0f\x84\x00\x00\x00\x00";
    assert_eq!(static_call("6.1", conditional, true, other, false)[..2], conditional[..2]);
    assert_eq!(static_call("6.1", conditional, true, other, false)[2..], (0x200u32 - 6).to_le_bytes());
}

#[test]
fn a_kernel_that_lists_no_return_is_built_without_return_thunks() {
    let jump = pvops::insn::jmp(TEXT, TEXT + 0x100);
    assert_eq!(static_call_beside(&[], "6.12", &jump, true, 0, true), b"\xc3\xcc\xcc\xcc\xcc");
}

#[test]
fn an_inlined_unlock_is_a_static_call_that_can_be_written_over_since_7_3() {
    let inlined = b"\x3e\x3e\xc6\x07\x00";
    assert_eq!(static_call("7.3", inlined, false, TEXT + 0x200, true), pvops::insn::call(TEXT, TEXT + 0x200));
    let tables =
        Tables { static_calls: vec![StaticCall { address: TEXT, key: SLOTS, tail: false }], ..Tables::default() };
    assert!(run("7.2", inlined, &[0], &tables, &machine(0)).is_err());
}

#[test]
fn no_static_call_at_a_static_calls_site_stops_the_kernel() {
    let tables =
        Tables { static_calls: vec![StaticCall { address: TEXT, key: SLOTS, tail: false }], ..Tables::default() };
    let error = run("6.1", &[0x90; 8], &[0], &tables, &machine(0)).expect_err("a BUG");
    assert_eq!(error.kind, ErrorKind::Bug);
    assert!(error.to_string().contains("row 0"), "{error}");
}

#[test]
fn from_5_12_to_5_16_a_call_that_returns_0_has_operand_prefixes_and_a_ret_is_one_byte() {
    let (call, jump) = (pvops::insn::call(TEXT, TEXT + 0x100), pvops::insn::jmp(TEXT, TEXT + 0x100));
    assert_eq!(static_call("5.13", &call, false, TEXT + 0x5000, false), b"\x66\x66\x48\x31\xc0");
    assert_eq!(static_call("5.13", &jump, true, 0, false), [&[0xc3], &jump[1..]].concat());
    assert_eq!(static_call("5.12", &call, false, TEXT + 0x5000, false), b"\x66\x66\x48\x31\xc0");
    assert_eq!(static_call("5.12", &jump, true, 0, false), [&[0xc3], &jump[1..]].concat());
    assert_eq!(static_call("5.10.0", &jump, true, 0, false), [&[0xc3], &jump[1..]].concat());
    assert_eq!(static_call("5.10", &jump, true, 0, false), b"\xc3\xcc\xcc\xcc\xcc");
    assert_eq!(static_call("5.17", &call, false, TEXT + 0x5000, false), b"\x66\x66\x48\x31\xc0");
    assert_eq!(static_call("5.17", &jump, true, 0, false), b"\xc3\xcc\xcc\xcc\xcc");
    assert_eq!(static_call("5.15", &jump, true, 0, false), b"\xc3\xcc\xcc\xcc\xcc");
}

#[test]
fn a_jump_behind_an_indirect_one_is_stopped_since_5_17() {
    let site = pvops::insn::jmp(TEXT, THUNKS);
    let tables = Tables { retpolines: AddressTable { section: String::new(), sites: vec![TEXT] }, ..Tables::default() };
    let patched = |era| run(era, &site, &[0], &tables, &machine(0)).expect("no BUG").1.from(TEXT).to_vec();
    assert_eq!(patched("5.15"), b"\xff\xe0\x0f\x1f\x00");
    assert_eq!(patched("6.1"), b"\xff\xe0\xcc\x66\x90");
}

#[test]
fn a_return_that_clang_prefixed_is_replaced_as_a_whole() {
    let site = [&[0x2e][..], &pvops::insn::jmp(TEXT + 1, TEXT + 0x4000), &[0x90]].concat();
    let tables = Tables { returns: AddressTable { section: String::new(), sites: vec![TEXT] }, ..Tables::default() };
    let patched = |rethunk: bool| {
        let boot = Boot { rethunk: Some(1), return_thunk: Some(TEXT + 0x6000), ..machine(2 * u32::from(rethunk)) };
        run("6.12", &site, &[0], &tables, &boot).expect("no BUG").1.from(TEXT).to_vec()
    };
    assert_eq!(patched(false), b"\xc3\xcc\xcc\xcc\xcc\xcc\x90");
    assert_eq!(patched(true), [&pvops::insn::jmp(TEXT, TEXT + 0x6000)[..], &[0xcc, 0x90]].concat());
}
