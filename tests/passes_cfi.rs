//! `apply_fineibt()` over code made up for the purpose: kCFI and FineIBT of all eras.

#![allow(clippy::expect_used)] // no BUG where none is expected

use pvops::image::Bits;
use pvops::insn::X86_11_NOPS;
use pvops::plan::{Bhi, BhiCode, Boot, Cfi, CfiMode, Landmarks, LoadedCode, Plan, Rules, Run};
use pvops::sites::{AddressTable, Preambles, Tables};

const TEXT: u64 = 0xffff_ffff_8100_0000;
const THUNKS: u64 = TEXT + 0x1000;

fn run(era: &str, text: &[u8], tables: &Tables, boot: &Boot, marks: Landmarks) -> (Vec<u8>, Plan) {
    let marks = Landmarks { text: (TEXT, TEXT + 0x10000), indirect_thunks: Some(THUNKS), ..marks };
    let memory = LoadedCode::new(Bits::B64, [(TEXT, text)]);
    let rules = Rules::by_name(era).expect("an era");
    let (plan, memory) = Run::new(memory, tables, &marks, boot, rules, &|_, _| None).all().expect("no BUG");
    (memory.from(TEXT).to_vec(), plan)
}

fn machine(mode: CfiMode, seed: Option<u32>, its: bool) -> Boot {
    machine_with(mode, Bhi::Keeps, seed, its)
}

fn machine_with(mode: CfiMode, bhi: Bhi, seed: Option<u32>, its: bool) -> Boot {
    Boot {
        features: vec![2 * u32::from(its)],
        its: Some(1),
        nops: &X86_11_NOPS,
        cfi: Cfi { mode, bhi, seed },
        cfi_known: seed.is_some(),
        ..Boot::default()
    }
}

/// Two functions with preambles, the second sealed; and a caller before a retpoline.
fn cfi_kernel() -> (Vec<u8>, Tables) {
    let preamble =
        |hash: u32| [&[0xb8][..], &hash.to_le_bytes(), &[0x90; 11], b"\xf3\x0f\x1e\xfa", &[0x90; 12]].concat();
    let caller = |hash: u32| {
        let minus = hash.wrapping_neg().to_le_bytes();
        [b"\x41\xba", &minus[..], b"\x45\x03\x53\xf1\x74\x02\x0f\x0b"].concat()
    };
    let mut text = [preamble(0x1122_3344), preamble(0x5566_7788), caller(0x1122_3344)].concat();
    let site = TEXT + text.len() as u64;
    text.extend(pvops::insn::call(site, THUNKS + 32 * 11));
    let table = |sites: Vec<u64>| AddressTable { section: String::new(), sites };
    let tables = Tables {
        cfi: table(vec![TEXT, TEXT + 32]),
        ibt: table(vec![TEXT + 48]),
        retpolines: table(vec![site]),
        ..Tables::default()
    };
    (text, tables)
}

fn cfi(mode: CfiMode, seed: Option<u32>) -> (Vec<u8>, usize) {
    cfi_of("6.12", mode, seed)
}

fn cfi_of(era: &str, mode: CfiMode, seed: Option<u32>) -> (Vec<u8>, usize) {
    let (text, tables) = cfi_kernel();
    let (text, plan) = run(era, &text, &tables, &machine(mode, seed, false), Landmarks::default());
    (text, plan.guesses().len())
}

#[test]
fn hashes_are_new_at_each_boot_and_a_sealed_function_has_none() {
    let (built, _) = cfi_kernel();
    let (same, guesses) = cfi(CfiMode::Kcfi, None);
    assert_eq!(same[..16], built[..16]);
    assert_eq!(same[33..37], [0; 4]);
    assert_eq!(same[48..52], *b"\x66\x0f\x1f\x00");
    assert_eq!(same[64..78], built[64..78]);
    assert_eq!(same[78..], *b"\x41\xff\xd3\x66\x90");
    // Nobody says what the seed was: one preamble and one caller are guesses.
    assert_eq!(guesses, 2);
    let (seeded, guesses) = cfi(CfiMode::Kcfi, Some(0xff));
    assert_eq!(seeded[1..5], 0x1122_33bb_u32.to_le_bytes());
    assert_eq!(seeded[33..37], [0; 4]);
    assert_eq!(seeded[66..70], 0x1122_33bb_u32.wrapping_neg().to_le_bytes());
    assert_eq!(guesses, 0);
}

#[test]
fn with_ibt_functions_check_their_callers() {
    let (text, _) = cfi(CfiMode::FineIbt, Some(0));
    assert_eq!(text[..16], *b"\xf3\x0f\x1e\xfa\x41\x81\xea\x44\x33\x22\x11\x74\x03\x0f\x0b\x90");
    assert_eq!(text[16..20], *b"\x66\x0f\x1f\x00");
    // The sealed one lets nobody in: no endbr, and a hash that no caller has.
    assert_eq!(text[32..48], *b"\x66\x0f\x1f\x00\x41\x81\xea\x00\x00\x00\x00\x74\x03\x0f\x0b\x90");
    assert_eq!(text[64..78], *b"\x41\xba\x44\x33\x22\x11\x49\x83\xeb\x10\x0f\x1f\x40\x00");
}

#[test]
fn before_6_5_no_hash_is_sealed_and_functions_keep_their_endbr() {
    let (text, _) = cfi_of("6.1", CfiMode::Kcfi, Some(0));
    assert_eq!(text[33..37], 0x5566_7788_u32.to_le_bytes());
    let (text, _) = cfi_of("6.1", CfiMode::FineIbt, Some(0));
    assert_eq!(text[16..20], *b"\xf3\x0f\x1e\xfa");
    assert_eq!(text[32..48], *b"\xf3\x0f\x1e\xfa\x41\x81\xea\x88\x77\x66\x55\x74\x03\x0f\x0b\x90");
}

/// As [`cfi_kernel`], and a third function that nothing calls indirectly; the caller's call has a prefix, as for `%r11`.
fn cfi_of_6_18(era: &str, mode: CfiMode, its: bool, jump: bool) -> (Vec<u8>, Plan) {
    let (mut text, mut tables) = cfi_kernel();
    let site = tables.retpolines.sites[0];
    text.truncate((site - TEXT) as usize);
    let mut branch = [&b"\x2e"[..], &pvops::insn::call(site + 1, THUNKS + 32 * 11)].concat();
    branch[1] = if jump { 0xe9 } else { 0xe8 };
    text.extend(branch);
    let third = TEXT + text.len() as u64;
    text.extend([&b"\xbb\x01\x02\x03\x04"[..], &[0x90; 11], b"\x31\xc0\xc3\x90"].concat());
    tables.cfi.sites.push(third);
    let marks = Landmarks {
        fineibt_preamble: Some(*b"\xf3\x0f\x1e\xfa\x2d\x78\x56\x34\x12\x2e\x0f\x85\x03\x00\x00\x00"),
        fineibt_caller: Some(*b"\xb8\x78\x56\x34\x12\x4d\x8d\x5b\xf0\x0f\x1f\x44\x00\x00"),
        fineibt_paranoid: Some(*b"\xb8\x78\x56\x34\x12\x41\x3b\x43\xf5\x2e\x4d\x8d\x5b\xf0\x75\xfd\x2e\x41\xff\xd3"),
        ..Landmarks::default()
    };
    run(era, &text, &tables, &machine(mode, Some(0), its), marks)
}

#[test]
fn since_6_15_functions_without_endbr_keep_their_preambles_and_a_paranoid_caller_compares_too() {
    let (text, _) = cfi_of_6_18("6.18", CfiMode::FineIbt, false, false);
    let preamble = b"\xf3\x0f\x1e\xfa\x2d\x44\x33\x22\x11\x2e\x0f\x85\x03\x00\x00\x00\x0f\x1f\x40\xd6";
    assert_eq!(text[..20], *preamble);
    assert_eq!(text[64..84], *b"\xb8\x44\x33\x22\x11\x4d\x8d\x5b\xf0\x0f\x1f\x44\x00\x00\x2e\x2e\x2e\x41\xff\xd3");
    assert_eq!(text[84..89], *b"\xbb\x01\x02\x03\x04");
    let check = b"\xb8\x44\x33\x22\x11\x41\x3b\x43\xf5\x2e\x4d\x8d\x5b\xf0\x75\xfd";
    let (text, _) = cfi_of_6_18("6.18", CfiMode::Paranoid, false, false);
    assert_eq!(text[..20], *preamble);
    assert_eq!(text[64..84], [&check[..], b"\x2e\x41\xff\xd3"].concat());
    let (text, _) = cfi_of_6_18("6.18", CfiMode::Paranoid, false, true);
    assert_eq!(text[64..84], [&check[..], b"\x41\xff\xe3\xcc"].concat());
    let (text, _) = cfi_of_6_18("6.15", CfiMode::Paranoid, false, true);
    assert_eq!(text[64..84], [&check[..], b"\x41\xff\xe3\x90"].concat());
}

#[test]
fn with_its_the_rest_of_a_paranoid_check_is_in_the_thunk() {
    let (text, plan) = cfi_of_6_18("6.18", CfiMode::Paranoid, true, false);
    // The last byte of the call, 0x52, is in the lower half of its line: a thunk, whose page nobody tells.
    assert_eq!(text[78..80], *b"\x2e\xe8");
    let target = 0x4f_u64.wrapping_add(5 + u64::from(u32::from_le_bytes(text[80..84].try_into().unwrap())));
    // Behind what the check ends with: one byte of three, the jump back, then `jmp *%r11`.
    assert_eq!(target & 0xfff, 33);
    assert_eq!(plan.guesses().len(), 1);
}

#[test]
fn a_kernel_that_has_no_paranoid_checks_has_none_in_its_thunks() {
    let (text, tables) = cfi_kernel();
    let (text, _) = run("6.12", &text, &tables, &machine(CfiMode::Paranoid, Some(0), true), Landmarks::default());
    assert_eq!(text[64..79], *b"\x41\xba\x44\x33\x22\x11\x49\x83\xeb\x10\x0f\x1f\x40\x00\xe8");
    let target = 78_u64.wrapping_add(5 + u64::from(u32::from_le_bytes(text[79..83].try_into().unwrap())));
    assert_eq!(target & 0xfff, 32);
}

/// Functions of none, one, two and seven arguments, the last sealed.
fn scrubbed(era: &str, marks: Landmarks, bhi: Bhi) -> Vec<u8> {
    let preamble = |load: u8| {
        [&[load][..], &0x1122_3344_u32.to_le_bytes(), &[0x90; 11], b"\xf3\x0f\x1e\xfa", &[0x90; 12]].concat()
    };
    let text = [0xb8, 0xb9, 0xba, 0xbf].map(preamble).concat();
    let table = |sites: Vec<u64>| AddressTable { section: String::new(), sites };
    let tables = Tables {
        cfi: table((0..4).map(|at| TEXT + 32 * at).collect()),
        ibt: table(vec![TEXT + 96 + 16]),
        ..Tables::default()
    };
    run(era, &text, &tables, &machine_with(CfiMode::FineIbt, bhi, Some(0), false), marks).0
}

/// The code of 7.2.
fn marks_of_7_2() -> Landmarks {
    Landmarks {
        fineibt_preamble: Some(*b"\xf3\x0f\x1e\xfa\x2d\x78\x56\x34\x12\x2e\x0f\x85\x03\x00\x00\x00"),
        fineibt_caller: Some(*b"\xb8\x78\x56\x34\x12\x4d\x8d\x5b\xf0\x0f\x1f\x44\x00\x00"),
        fineibt_paranoid: Some(*b"\xb8\x78\x56\x34\x12\x41\x3b\x43\xf5\x2e\x4d\x8d\x5b\xf0\x75\xfd\x2e\x41\xff\xd3"),
        fineibt_bhi: Some(BhiCode {
            at: 9,
            one: b"\x48\x0f\x45\xf8\x2e\x75\x03\x0f\x1f\x40\xd6".to_vec(),
            args: TEXT + 0x2000,
        }),
        ..Landmarks::default()
    }
}

#[test]
fn functions_clear_as_many_arguments_as_they_have() {
    let text = scrubbed("7.2", marks_of_7_2(), Bhi::Clears);
    let sealed = *b"\x0f\x1f\x40\xd6";
    assert_eq!(text[..16], *b"\xf3\x0f\x1e\xfa\x2d\x44\x33\x22\x11\x2e\x0f\x85\x03\x00\x00\x00");
    assert_eq!(text[32..48], *b"\xf3\x0f\x1e\xfa\x2d\x44\x33\x22\x11\x48\x0f\x45\xf8\x2e\x75\x03");
    // `__bhi_args[2]`, from the end of the preamble.
    let call = (0x2000_u32 + 2 * 32 - (64 + 16)).to_le_bytes();
    assert_eq!(text[64..76], *b"\xf3\x0f\x1e\xfa\x2d\x44\x33\x22\x11\x2e\x2e\xe8");
    assert_eq!(text[76..80], call);
    // What is sealed is its own `endbr`, and its hash.
    let call = (0x2000_u32 + 7 * 32 - (96 + 16)).to_le_bytes();
    assert_eq!(text[96..108], [&sealed[..], b"\x2d\0\0\0\0\x2e\x2e\xe8"].concat());
    assert_eq!(text[108..112], call);
    for function in [16, 48, 80, 112] {
        assert_eq!(text[function..function + 4], sealed);
    }
}

#[test]
fn where_a_failure_is_a_warning_one_argument_is_cleared_by_a_call_too() {
    let text = scrubbed("7.2", marks_of_7_2(), Bhi::Calls);
    assert_eq!(text[41..44], *b"\x2e\x2e\xe8");
    assert_eq!(text[44..48], (0x2000_u32 + 32 - 48).to_le_bytes());
}

#[test]
fn what_6_15_has_for_one_argument_reaches_into_the_function() {
    let marks = Landmarks {
        fineibt_preamble: Some(*b"\xf3\x0f\x1e\xfa\x41\x81\xea\x78\x56\x34\x12\x75\xf9\x0f\x1f\x00"),
        fineibt_caller: Some(*b"\x41\xba\x78\x56\x34\x12\x4d\x8d\x5b\xf0\x0f\x1f\x40\x00"),
        fineibt_paranoid: Some(*b"\x41\xba\x78\x56\x34\x12\x45\x3b\x53\xf7\x4d\x8d\x5b\xf0\x75\xfd\x41\xff\xd3\x90"),
        fineibt_bhi: Some(BhiCode {
            at: 11,
            one: b"\x49\x0f\x45\xfa\x75\xf5\x0f\x1f\x00".to_vec(),
            args: TEXT + 0x2000,
        }),
        ..Landmarks::default()
    };
    let text = scrubbed("6.15", marks, Bhi::Clears);
    assert_eq!(text[32..52], *b"\xf3\x0f\x1e\xfa\x41\x81\xea\x44\x33\x22\x11\x49\x0f\x45\xfa\x75\xf5\x0f\x1f\x00");
    assert_eq!(text[75..76], *b"\xe8");
    assert_eq!(text[76..80], (0x2000_u32 + 2 * 32 - 80).to_le_bytes());
    assert_eq!(text[80..84], *b"\x66\x0f\x1f\x00");
}

/// Two functions of one argument, 64 bytes behind their preambles; the second is sealed.
fn far(era: &str, sealed: Option<u64>, machine: &Boot) -> (Vec<u8>, Plan) {
    let function =
        |hash: u32| [&[0xb9][..], &hash.to_le_bytes(), &[0x90; 59], b"\xf3\x0f\x1e\xfa", &[0x90; 60]].concat();
    let text = [function(0x1122_3344), function(0x5566_7788)].concat();
    let table = |sites: Vec<u64>| AddressTable { section: String::new(), sites };
    let tables = Tables {
        cfi: table(vec![TEXT, TEXT + 128]),
        preambles: Preambles { built: 64, sealed },
        ibt: table(vec![TEXT + 128 + 64]),
        ..Tables::default()
    };
    run(era, &text, &tables, machine, if era == "6.12" { Landmarks::default() } else { marks_of_7_2() })
}

#[test]
fn a_hash_may_be_farther_before_its_function_than_16_bytes() {
    let (text, _) = far("7.2", Some(64), &machine(CfiMode::Kcfi, Some(0xff), false));
    assert_eq!(text[..8], *b"\xb9\xbb\x33\x22\x11\x90\x90\x90");
    assert_eq!(text[48..68], *b"\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\xf3\x0f\x1e\xfa");
    assert_eq!(text[128..136], *b"\xb9\0\0\0\0\x90\x90\x90");
    assert_eq!(text[192..196], *b"\x0f\x1f\x40\xd6");
    let same = |sealed, era| far(era, sealed, &machine(CfiMode::Kcfi, Some(0xff), false)).0;
    assert_eq!(same(None, "7.2"), text, "without the code, 7.2's choice");
    assert_eq!(same(Some(64), "6.18"), text, "the code goes before the choice of 6.18");
}

#[test]
fn fineibt_begins_16_bytes_before_its_function_and_a_far_hash_is_new_too() {
    let (text, _) = far("7.2", Some(64), &machine(CfiMode::FineIbt, Some(0xff), false));
    assert_eq!(text[..8], *b"\xb9\xbb\x33\x22\x11\x90\x90\x90");
    assert_eq!(text[48..68], *b"\xf3\x0f\x1e\xfa\x2d\xbb\x33\x22\x11\x2e\x0f\x85\x03\0\0\0\x0f\x1f\x40\xd6");
    // Sealed is FineIBT's code alone.
    assert_eq!(text[128..136], *b"\xb9\x77\x77\x66\x55\x90\x90\x90");
    assert_eq!(text[176..185], *b"\x0f\x1f\x40\xd6\x2d\0\0\0\0");
    let (text, _) = far("7.2", Some(64), &machine_with(CfiMode::FineIbt, Bhi::Calls, Some(0), false));
    assert_eq!(text[57..60], *b"\x2e\x2e\xe8");
    assert_eq!(text[60..64], (0x2000_u32 + 32 - 64).to_le_bytes());
    // What a seed changes: two `mov`, and the code that is not sealed.
    let (text, plan) = far("7.2", Some(64), &machine(CfiMode::FineIbt, None, false));
    assert_eq!(text[..5], *b"\xb9\x44\x33\x22\x11");
    let guesses: Vec<_> = plan.guesses().iter().map(|guess| (guess.address - TEXT, guess.len)).collect();
    assert_eq!(guesses, [(1, 4), (53, 4), (129, 4)]);
}

#[test]
fn kernels_that_take_16_bytes_for_granted_seal_what_is_there() {
    let (text, _) = far("6.12", Some(16), &machine(CfiMode::Kcfi, Some(0), false));
    assert_eq!(text[128..133], *b"\xb9\x88\x77\x66\x55");
    // 15 bytes before the function, in its nops.
    assert_eq!(text[176..184], *b"\x90\0\0\0\0\x90\x90\x90");
    let (text, _) = far("6.12", None, &machine(CfiMode::FineIbt, Some(0), false));
    assert_eq!(text[..16], *b"\xf3\x0f\x1e\xfa\x41\x81\xea\x44\x33\x22\x11\x74\x03\x0f\x0b\x90");
    assert_eq!(text[64..68], *b"\xf3\x0f\x1e\xfa");
    // Since 6.15 it looks for an `endbr` behind 16 bytes, and for a hash before it seals one.
    let (text, _) = far("6.18", Some(16), &machine(CfiMode::FineIbt, Some(0), false));
    assert_eq!(text[..16], *b"\xb9\x44\x33\x22\x11\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90");
    let (text, _) = far("6.18", Some(16), &machine(CfiMode::Kcfi, Some(0), false));
    assert_eq!(text[128..133], *b"\xb9\x88\x77\x66\x55");
    assert_eq!(text[176..192], [0x90; 16]);
}

#[test]
fn callers_trap_at_a_udb_since_7_3() {
    let (text, _) = cfi_of("7.3", CfiMode::Kcfi, Some(0));
    assert_eq!(text[74..78], *b"\x75\x01\xa8\xd6");
    let (text, _) = cfi_of("7.2", CfiMode::Kcfi, Some(0));
    assert_eq!(text[74..78], *b"\x74\x02\x0f\x0b");
}

#[test]
fn cfi_off_jumps_over_the_check() {
    let (text, _) = cfi(CfiMode::Off, None);
    assert_eq!(text[64..66], *b"\xeb\x0c");
    // The preamble stays, sealed or not.
    assert_eq!(text[33..37], 0x5566_7788_u32.to_le_bytes());
}
