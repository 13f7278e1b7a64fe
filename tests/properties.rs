//! Properties of the patching code, over made-up code, over every row of real kernels (`PVOPS_KERNELS`), and beside GNU
//! as and objdump (skipped with a note where binutils is missing).

#![allow(clippy::expect_used)] // no BUG where none is expected

#[path = "properties/binutils.rs"]
mod binutils;
#[path = "properties/decode.rs"]
mod decode;
mod kernels;
#[path = "properties/twice.rs"]
mod twice;

use std::path::PathBuf;
use std::sync::OnceLock;

use decode::{Branch, branches, is_nop};
use iced_x86::{Decoder, DecoderOptions};
use proptest::prelude::*;
use pvops::ErrorKind;
use pvops::image::{Bits, Image};
use pvops::insn::{self, GENERIC_NOPS, INT3, K8_NOPS, NopTable, X86_11_NOPS, X86_32_NOPS, X86_NOPS};
use pvops::plan::alternatives::{Callee, Patcher};
use pvops::plan::optimise::optimise;
use pvops::plan::relocate::{self, Move};
use pvops::plan::rules::{Nops, Relocate};
use pvops::plan::{Boot, Landmarks, LoadedCode, Rules, Run};
use pvops::sites::{Alternative, AlternativeTable, Tables, alternatives};

const SITE: u64 = 0xffff_ffff_8100_0000;
/// Farther from the code made up here than its length: no branch within it looks as if it reached out.
const GAP: u64 = 0x1000;

const TABLES: [(&str, Bits); 8] = [
    ("k8", Bits::B64),
    ("p6", Bits::B64),
    ("x86", Bits::B64),
    ("x86-11", Bits::B64),
    ("k8", Bits::B32),
    ("k7", Bits::B32),
    ("generic", Bits::B32),
    ("x86-32", Bits::B32),
];

fn row(replacement: u64, len: usize, replacement_len: usize) -> Alternative {
    let (len, replacement_len) = (len as u8, replacement_len as u8);
    let (feature, inverted, direct_call, pad) = (0, false, false, 0);
    Alternative { address: SITE, replacement, feature, inverted, direct_call, len, replacement_len, pad }
}

fn patcher(era: &str, bits: Bits) -> Patcher {
    let rules = Rules::by_name(era).expect("an era").alternatives;
    let nops = match (era, bits) {
        ("5.10", Bits::B64) => &K8_NOPS,
        ("5.10", Bits::B32) => &GENERIC_NOPS,
        ("6.1", Bits::B64) => &X86_NOPS,
        (_, Bits::B64) => &X86_11_NOPS,
        (_, Bits::B32) => &X86_32_NOPS,
    };
    Patcher { rules, bits, nops }
}

/// One or two instructions of a replacement.
#[derive(Debug, Clone)]
enum Atom {
    Call(i32),
    Jump(i32),
    Jcc(i32),
    Load(i32),
    Compare(i32),
    Move,
    Cli,
    ShortOverMove,
    JumpOverMove,
}

impl Atom {
    /// Its code; targets are counted from the site.
    fn code(&self, at: u64) -> Vec<u8> {
        let relative = |opcode: &[u8], distance: i32, behind: &[u8]| {
            let next = at + opcode.len() as u64 + 4 + behind.len() as u64;
            let field = SITE.wrapping_add(distance as u64).wrapping_sub(next) as u32;
            [opcode, &field.to_le_bytes(), behind].concat()
        };
        match *self {
            Atom::Call(to) => relative(b"\xe8", to, b""),
            Atom::Jump(to) => relative(b"\xe9", to, b""),
            Atom::Jcc(to) => relative(b"\x0f\x84", to, b""),
            Atom::Load(to) => relative(b"\x48\x8b\x05", to, b""),
            Atom::Compare(to) => relative(b"\x80\x3d", to, b"\x07"),
            Atom::Move => b"\xb8\x90\x90\x90\x90".to_vec(),
            Atom::Cli => b"\xfa".to_vec(),
            Atom::ShortOverMove => b"\x74\x05\xb8\x01\x00\x00\x00".to_vec(),
            Atom::JumpOverMove => b"\xe9\x05\x00\x00\x00\xb8\x01\x00\x00\x00".to_vec(),
        }
    }
}

/// Where branches go: near enough for two bytes, or far; never into the site or its replacement.
fn distance() -> impl Strategy<Value = i32> {
    prop_oneof![-200..-1i32, 100..250i32, -0x4000_0000..-0x1_0000i32, 0x3000_0000..0x4000_0000i32]
}

fn atom() -> impl Strategy<Value = Atom> {
    prop_oneof![
        distance().prop_map(Atom::Call),
        distance().prop_map(Atom::Jump),
        distance().prop_map(Atom::Jcc),
        distance().prop_map(Atom::Load),
        distance().prop_map(Atom::Compare),
        Just(Atom::Move),
        Just(Atom::Cli),
        Just(Atom::ShortOverMove),
        Just(Atom::JumpOverMove),
    ]
}

fn assembled(atoms: &[Atom], start: u64) -> Vec<u8> {
    let mut code = Vec::new();
    for atom in atoms {
        code.extend(atom.code(start + code.len() as u64));
    }
    code
}

/// The site after a row with this replacement, linked at `start`, was taken.
fn taken(patcher: &Patcher, start: u64, code: &[u8], pad: usize) -> Vec<u8> {
    let mut site = vec![0x90; code.len() + pad];
    patcher.taken(&row(start, site.len(), code.len()), code, None, &mut site).expect("no BUG");
    site
}

/// What the branches of moved code must be: those that leave it keep their target, the others their distance.
fn expected(linked: &[Branch], start: u64, len: usize, to: u64) -> Vec<Branch> {
    let inside = start..=start + len as u64;
    let moved = |target: u64| if inside.contains(&target) { target - start + to } else { target };
    linked.iter().map(|b| Branch { target: moved(b.target), ..*b }).collect()
}

/// Nops, what is nearly one, and the beginnings of instructions.
const PARTS: &[&[u8]] = &[
    b"\x90",
    &[0x90; 9],
    b"\x66\x90",
    b"\x0f\x1f\x00",
    b"\xf3\x90",
    b"\xfa",
    b"\xeb\x00",
    b"\xb8\x90\x90\x90\x90",
    b"\x06",
    b"\x48\x89\xc0",
    b"\x48\x8d\x76\x00",
    b"\xcc",
    b"\x0f",
    b"\xe9",
];

proptest! {
    #[test]
    fn since_6_5_every_branch_and_rip_operand_of_a_moved_replacement_keeps_its_target(
        atoms in prop::collection::vec(atom(), 1..6), gap in GAP..0x1000_0000, pad in 0..11usize, newest: bool,
    ) {
        let start = SITE + gap;
        let code = assembled(&atoms, start);
        let site = taken(&patcher(if newest { "7.2" } else { "6.12" }, Bits::B64), start, &code, pad);
        let linked = branches(Bits::B64, start, &code);
        prop_assert_eq!(branches(Bits::B64, SITE, &site), expected(&linked, start, code.len(), SITE));
    }

    #[test]
    fn to_6_4_a_replacement_that_is_one_call_or_jump_keeps_its_target(
        to in distance(), jump: bool, gap in GAP..0x1000_0000, pad in 0..11usize, older: bool,
    ) {
        let start = SITE + gap;
        let code = if jump { Atom::Jump(to) } else { Atom::Call(to) }.code(start);
        let site = taken(&patcher(if older { "5.10" } else { "6.1" }, Bits::B64), start, &code, pad);
        let after = branches(Bits::B64, SITE, &site);
        prop_assert_eq!(after, branches(Bits::B64, start, &code));
    }

    #[test]
    fn to_6_4_a_longer_replacement_is_copied_as_it_is_and_its_branches_go_astray(
        atoms in prop::collection::vec(atom(), 1..6), gap in GAP..0x1000_0000, pad in 0..11usize, older: bool,
    ) {
        let start = SITE + gap;
        let code = assembled(&atoms, start);
        prop_assume!(code.len() != insn::CALL_LEN);
        let site = taken(&patcher(if older { "5.10" } else { "6.1" }, Bits::B64), start, &code, pad);
        prop_assert_eq!(&site[..code.len()], &code[..]);
        let astray: Vec<u64> = branches(Bits::B64, start, &code).iter().map(|b| b.target.wrapping_sub(gap)).collect();
        let after: Vec<u64> = branches(Bits::B64, SITE, &site).iter().map(|b| b.target).collect();
        prop_assert_eq!(after, astray);
    }

    #[test]
    fn optimising_nops_twice_is_optimising_them_once(
        parts in prop::collection::vec(
            prop::sample::select(PARTS),
            0..30,
        ),
        how in prop_oneof![Just(Nops::Runs), Just(Nops::Merge), Just(Nops::MergeAll)],
    ) {
        for (table, bits) in TABLES {
            if table == "k7" || (how != Nops::Runs && !table.starts_with("x86")) {
                continue; // See below for the first; the others never met.
            }
            let nops = NopTable::by_name(table).expect("a table");
            let mut once = parts.concat();
            optimise(how, bits, nops, &mut once);
            let mut twice = once.clone();
            optimise(how, bits, nops, &mut twice);
            prop_assert_eq!(once, twice, "{}", table);
        }
    }
}

#[test]
fn a_jump_within_a_replacement_close_to_its_site_is_shortened_to_somewhere_else() {
    // The kernel adds the move to every jump it tries to shorten, also where it did not move it.
    let code = Atom::JumpOverMove.code(0);
    let mut site = code.clone();
    relocate::every(Move { from: SITE + 0x20, len: code.len(), to: SITE }, Bits::B64, &mut site).expect("no BUG");
    assert_eq!(site[..5], *b"\xeb\x28\xcc\xcc\xcc");
    assert_eq!(branches(Bits::B64, 0, &code)[0].target, 10);
    assert_eq!(branches(Bits::B64, 0, &site)[0].target, 0x2a);
}

#[test]
fn nops_of_k7_are_optimised_again_by_a_second_run() {
    // Nine bytes: the nop of eight ends with a 90, and one 90 follows.
    let nops = NopTable::by_name("k7").expect("a table");
    let mut buffer = [0x90; 9];
    optimise(Nops::Runs, Bits::B32, nops, &mut buffer);
    assert_eq!(buffer, *b"\x8d\x04\x05\x00\x00\x00\x00\x90\x90");
    optimise(Nops::Runs, Bits::B32, nops, &mut buffer);
    assert_eq!(buffer, *b"\x8d\x04\x05\x00\x00\x00\x00\x8b\xc0");
}

#[test]
fn every_nop_table_fills_every_length_with_nops_of_exactly_that_length() {
    for (table, bits) in TABLES {
        let nops = NopTable::by_name(table).expect("a table");
        for len in 1..=40 {
            let mut buffer = vec![INT3; len];
            nops.fill(&mut buffer);
            let decoded = decode::instructions(bits, SITE, &buffer);
            assert!(decoded.iter().all(is_nop), "{table} {len}: {buffer:02x?}");
            assert_eq!(decoded.iter().map(|i| i.len()).sum::<usize>(), len, "{table}");
        }
        let [five] = &decode::instructions(bits, SITE, &nops.atomic5)[..] else {
            panic!("{table}: not one instruction")
        };
        assert!(is_nop(five) && five.len() == 5, "{table}: {five}");
    }
}

#[test]
fn since_6_5_nops_of_every_length_are_one_instruction_that_ends_where_they_end() {
    for (table, bits, longest) in [("x86-11", Bits::B64, 11), ("x86-32", Bits::B32, 8)] {
        let nops = NopTable::by_name(table).expect("a table");
        for len in 1..=254 {
            let mut buffer = vec![0; len];
            nops.span(&mut buffer);
            let first = decode::instructions(bits, SITE, &buffer)[0];
            if len <= longest {
                assert!(is_nop(&first) && first.len() == len, "{table} {len}: {first}");
                continue;
            }
            let end = SITE + len as u64;
            let end = if bits == Bits::B32 { end & 0xffff_ffff } else { end };
            assert!(first.is_jmp_short_or_near() && first.near_branch_target() == end, "{table} {len}: {first}");
            assert_eq!(first.len(), if len < 128 { 2 } else { 5 }, "{table} {len}");
            assert!(buffer[first.len()..].iter().all(|&b| b == INT3), "{table} {len}");
        }
    }
}

// Real kernels

/// Every kernel at hand, opened once: unpacking them is most of the time these tests take.
fn images() -> &'static [Image] {
    static IMAGES: OnceLock<Vec<Image>> = OnceLock::new();
    let open = |path: PathBuf| Image::open(&path).expect("a real kernel opens");
    IMAGES.get_or_init(|| kernels::kernels().into_iter().map(open).collect())
}

fn era(image: &Image) -> &'static str {
    let release = image.release().unwrap_or_default();
    let eras = ["5.10", "6.1", "6.12", "7.2"];
    eras.into_iter().find(|era| release.starts_with(&format!("{era}."))).expect("the era of a kernel at hand")
}

fn rows(image: &Image) -> AlternativeTable {
    AlternativeTable::read(image).expect("a valid table").expect("a table")
}

#[test]
fn every_replacement_of_real_kernels_keeps_its_targets() {
    for image in images() {
        let (era, bits) = (era(image), image.bits());
        let patcher = patcher(era, bits);
        let (mut moved, mut kept) = (0, 0);
        for row in rows(image).rows {
            // The last of no bytes may lie behind the end of its section.
            let code = match row.replacement_len {
                0 => &[],
                len => image.read(row.replacement, len.into()).expect("a replacement"),
            };
            let mut site = image.read(row.address, row.len.into()).expect("a site").to_vec();
            let callee = row.direct_call.then_some(Callee::Function { target: SITE + 0x1234, placeholder: SITE });
            patcher.taken(&row, code, callee, &mut site).expect("no BUG");
            let linked = branches(bits, row.replacement, code);
            let mut wanted = expected(&linked, row.replacement, code.len(), row.address);
            if callee.is_some() {
                wanted[0].target = wanted[0].target.wrapping_add(0x1234);
            }
            // Up to 6.4 only one instruction is moved: so no other may leave its replacement.
            assert_eq!(branches(bits, row.address, &site), wanted, "{}: {row:x?}", image.name());
            moved += wanted.iter().zip(&linked).filter(|(new, old)| new.target == old.target).count();
            kept += wanted.iter().zip(&linked).filter(|(new, old)| new.target != old.target).count();
        }
        assert!(moved > 100, "{}", image.name());
        eprintln!("{era} {bits:?}: {moved} targets outside, {kept} inside or direct");
        assert_eq!(patcher.rules.relocate == Relocate::Every, matches!(era, "6.12" | "7.2"));
    }
}

#[test]
fn code_is_decoded_with_the_kernels_own_addresses() {
    // The other tests compare targets: a decoder that wraps or sign-extends wrongly would compare equal to itself.
    let code = insn::call(SITE, SITE - 0x10);
    let decoded = Decoder::with_ip(64, &code, SITE, DecoderOptions::NONE).decode();
    assert_eq!(decoded.near_branch_target(), 0xffff_ffff_80ff_fff0);
}
