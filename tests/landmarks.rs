//! Functions and code that no symbol names are found by what they are, in images made for the purpose.
#![allow(clippy::unwrap_used)]

mod elfwriter;

use elfwriter::{ElfWriter, flags};
use pvops::image::{Bits, Image};
use pvops::insn;
use pvops::plan::{BhiCode, Landmarks};
use pvops::sites::return_thunks;

const TEXT: u64 = 0xffff_ffff_8100_0000;
const DATA: u64 = 0xffff_ffff_8200_0000;
const TABLE: u64 = 0xffff_ffff_8300_0000;

fn with_text(text: &[u8]) -> ElfWriter {
    ElfWriter::new(Bits::B64).section(".text", TEXT, flags::TEXT, text)
}

/// A distance from a field to an address, four bytes.
fn from(place: u64, to: u64) -> [u8; 4] {
    (to.wrapping_sub(place) as u32).to_le_bytes()
}

#[test]
fn thunks_are_where_the_sites_go() {
    let (thunk, array) = (TEXT + 0x100, TEXT + 0x200);
    let mut text = vec![0xcc; 0x400];
    let mut put = |at: u64, code: &[u8]| text[(at - TEXT) as usize..][..code.len()].copy_from_slice(code);
    let (mut returns, mut branches) = (Vec::new(), Vec::new());
    for i in 0..4u64 {
        put(TEXT + 16 * i, &insn::jmp(TEXT + 16 * i, thunk));
        put(TEXT + 16 * i + 8, &insn::call(TEXT + 16 * i + 8, array + 32 * (i + 8)));
        put(array + 32 * (i + 8), &[0xe8, 1, 0, 0, 0, 0xcc, 0x4c, 0x89, 0x04 + 8 * i as u8, 0x24]);
        returns.extend(from(TABLE + 4 * i, TEXT + 16 * i));
        branches.extend(from(DATA + 4 * i, TEXT + 16 * i + 8));
    }
    let file = with_text(&text).section(".return_sites", TABLE, flags::RODATA, &returns).section(
        ".retpoline_sites",
        DATA,
        flags::RODATA,
        &branches,
    );
    let marks = Landmarks::of(&Image::from_bytes("made", file.build()).unwrap()).unwrap();
    assert_eq!((marks.return_thunk, marks.indirect_thunks), (Some(thunk), Some(array)));
}

/// Text whose returns jump to 0x5f0, with the thunks that late kernels have before it.
fn with_return_thunks(change: impl Fn(&mut [u8])) -> Image {
    let mut text = vec![0xcc; 0x800];
    let mut put = |at: usize, code: &[u8]| text[at..][..code.len()].copy_from_slice(code);
    let mut rows = Vec::new();
    for i in 0..4u64 {
        put(16 * i as usize, &insn::jmp(TEXT + 16 * i, TEXT + 0x5f0));
        rows.extend(from(TABLE + 4 * i, TEXT + 16 * i));
    }
    let safe_ret = b"\x48\x8d\x64\x24\x08\xc3\xcc";
    put(0x104, safe_ret);
    let call = |at: u64, to: u64| [&insn::call(TEXT + at, TEXT + to)[..], b"\x0f\x0b"].concat();
    put(0x10b, &call(0x10b, 0x104));
    put(0x43f, b"\xf6\xc3\xcc\x0f\xae\xe8\xeb\xf9\xcc");
    put(0x4be, b"\x48\xb8");
    put(0x4c0, safe_ret);
    put(0x4c7, b"\xcc\x0f\xae\xe8");
    put(0x4cb, &call(0x4cb, 0x4c0));
    put(0x4e0, &call(0x4e0, 0x4c0));
    put(0x5e0, b"\xc3\xcc");
    put(0x5f0, b"\xc3\xcc");
    change(&mut text);
    let file = with_text(&text).section(".return_sites", TABLE, flags::RODATA, &rows);
    Image::from_bytes("made", file.build()).unwrap()
}

#[test]
fn thunks_of_returns_are_told_by_their_code() {
    let image = with_return_thunks(|_| ());
    let found = |name| return_thunks::find(&image, name).unwrap();
    assert_eq!(found("retbleed_return_thunk"), Some(TEXT + 0x440));
    assert_eq!(found("srso_return_thunk"), Some(TEXT + 0x4e0), "not the call on the way out of srso_untrain_ret");
    assert_eq!(found("srso_alias_return_thunk"), Some(TEXT + 0x10b));
    assert_eq!(found("its_return_thunk"), Some(TEXT + 0x5e0));
    assert_eq!(found("call_depth_return_thunk"), None);
    assert_eq!(Landmarks::of(&image).unwrap().its_return_thunk, Some(TEXT + 0x5e0));
}

#[test]
fn two_thunks_of_one_kind_are_none() {
    let image = with_return_thunks(|text| text[0x520..0x522].copy_from_slice(b"\xc3\xcc"));
    assert_eq!(return_thunks::find(&image, "its_return_thunk").unwrap(), None);
}

#[test]
fn the_code_that_counts_calls_is_told_by_what_it_is() {
    // Up to 6.7; since 6.8; and with CONFIG_CALL_THUNKS_DEBUG.
    let codes: [&[u8]; 3] = [
        b"\x65\x48\xc1\x3c\x25\x10\xab\x02\x00\x05",
        b"\x65\x48\xc1\x3d\x07\xa2\x02\x7e\x05",
        b"\x65\x48\xc1\x3d\x07\xa2\x02\x7e\x05\x65\x48\xff\x05\x10\xa2\x02\x7e",
    ];
    let template = |rodata: &[u8]| {
        let file = with_text(&[0x90; 16]).section(".rodata", DATA, flags::RODATA, rodata);
        let file = file.section(".call_sites", TABLE, flags::RODATA, &from(TABLE, TEXT));
        Landmarks::of(&Image::from_bytes("made", file.build()).unwrap()).unwrap().call_template
    };
    for code in codes {
        let start = DATA + 8;
        assert_eq!(template(&[&[0; 8], code, &[0; 8]].concat()), Some((start, start + code.len() as u64)));
        assert_eq!(template(&[code, code].concat()), None, "which of two is not told");
        assert_eq!(template(&code[..code.len() - 1]), None, "the image ends in it");
    }
    assert_eq!(template(b"\x65\x48\xc1\x3d\x07\xa2\x02\x7e\x04"), None, "shifted by something else");
}

#[test]
fn the_function_that_does_nothing_is_told_by_its_code() {
    // Five direct calls through five pointers: to a function that returns, three times, and to two that do something.
    let (nothing, first, second) = (TEXT + 0x100, TEXT + 0x120, TEXT + 0x140);
    let mut text = vec![0xcc; 0x180];
    let mut put = |at: u64, code: &[u8]| text[(at - TEXT) as usize..][..code.len()].copy_from_slice(code);
    put(nothing, b"\xf3\x0f\x1e\xfa\xc3");
    put(first, b"\x31\xc0\xc3");
    put(second, b"\x48\x89\xf8\xc3");
    put(TEXT + 0x80, &insn::call(TEXT + 0x80, TEXT + 0x160));
    let mut rows = Vec::new();
    for i in 0..5u64 {
        let site = TEXT + 16 * i;
        put(site, &[&[0xff, 0x15][..], &from(site + 6, DATA + 8 * i)].concat());
        // ALWAYS, as a direct call (flag 2): 6 bytes, replaced by 5.
        let place = TABLE + 14 * i;
        rows.extend([&from(place, site)[..], &from(place + 4, TEXT + 0x80), &[0x75, 0, 2, 0, 6, 5]].concat());
    }
    let slots: Vec<u8> = [first, nothing, second, nothing, nothing].iter().flat_map(|f| f.to_le_bytes()).collect();
    let file = with_text(&text).section(".data", DATA, flags::DATA, &slots);
    let file = file.section(".altinstructions", TABLE, flags::RODATA, &rows);
    let marks = Landmarks::of(&Image::from_bytes("made", file.build()).unwrap()).unwrap();
    assert_eq!((marks.nop, marks.bug), (Some(nothing), Some(TEXT + 0x160)));
}

#[test]
fn the_code_of_fineibt_is_told_by_its_placeholder() {
    // 6.2's, and 7.0's, which compares and loads %eax.
    let codes: [(&[u8; 16], &[u8; 14]); 2] = [
        (
            b"\xf3\x0f\x1e\xfa\x41\x81\xea\x78\x56\x34\x12\x74\x03\x0f\x0b\x90",
            b"\x41\xba\x78\x56\x34\x12\x49\x83\xeb\x10\x0f\x1f\x40\x00",
        ),
        (
            b"\xf3\x0f\x1e\xfa\x2d\x78\x56\x34\x12\x2e\x0f\x85\x03\x00\x00\x00",
            b"\xb8\x78\x56\x34\x12\x4d\x8d\x5b\xf0\x0f\x1f\x44\x00\x00",
        ),
    ];
    for (preamble, caller) in codes {
        let constants = [&b"\x78\x56\x34\x12 and more"[..], preamble, b"\x90\x90\x90", caller, b"\0"].concat();
        let file = with_text(&[0x90; 64]).section(".rodata", DATA, flags::RODATA, &constants);
        let marks = |file: &ElfWriter| Landmarks::of(&Image::from_bytes("made", file.build()).unwrap()).unwrap();
        assert_eq!(marks(&file).fineibt_preamble, None, "a kernel without kCFI has none");
        let file = file.section(".cfi_sites", TABLE, flags::RODATA, &from(TABLE, TEXT));
        let found = marks(&file);
        assert_eq!((found.fineibt_preamble, found.fineibt_caller), (Some(*preamble), Some(*caller)));
        assert_eq!(found.fineibt_paranoid, None, "no third code follows");
        let paranoid = b"\xb8\x78\x56\x34\x12\x41\x3b\x43\xf5\x2e\x4d\x8d\x5b\xf0\x75\xfd\x2e\x41\xff\xd3";
        let constants = [&constants[..], paranoid].concat();
        let file = with_text(&[0x90; 64]).section(".rodata", DATA, flags::RODATA, &constants);
        let file = file.section(".cfi_sites", TABLE, flags::RODATA, &from(TABLE, TEXT));
        assert_eq!(marks(&file).fineibt_paranoid, Some(*paranoid));
    }
}

/// FineIBT's code of a release, and what functions of one argument have.
struct FineIbt {
    code: &'static [u8],
    template: &'static [u8],
    clears: &'static [u8],
    one: &'static [u8],
    at: usize,
}

#[test]
fn what_clears_arguments_is_told_by_its_code() {
    let of_7_2 = FineIbt {
        code: b"\xf3\x0f\x1e\xfa\x2d\x78\x56\x34\x12\x2e\x0f\x85\x03\x00\x00\x00\x0f\x1f\x40\xd6\
            \xb8\x78\x56\x34\x12\x4d\x8d\x5b\xf0\x0f\x1f\x44\x00\x00\
            \xb8\x78\x56\x34\x12\x41\x3b\x43\xf5\x2e\x4d\x8d\x5b\xf0\x75\xfd\x2e\x41\xff\xd3",
        template: b"\x48\x0f\x45\xf8\x2e\x75\x03\x0f\x1f\x40\xd6",
        clears: b"\x75\x0e\x48\x0f\x45\xf8\xc3\xcc",
        one: b"\x48\x0f\x45\xf8\x2e\x75\x03\x0f\x1f\x40\xd6",
        at: 9,
    };
    let of_6_15 = FineIbt {
        code: b"\xf3\x0f\x1e\xfa\x41\x81\xea\x78\x56\x34\x12\x75\xf9\x0f\x1f\x00\
            \x41\xba\x78\x56\x34\x12\x4d\x8d\x5b\xf0\x0f\x1f\x40\x00\
            \x41\xba\x78\x56\x34\x12\x45\x3b\x53\xf7\x4d\x8d\x5b\xf0\x75\xfd\x41\xff\xd3\x90",
        // It has none.
        template: b"",
        clears: b"\x75\x0e\x49\x0f\x45\xfa\xc3\xcc",
        one: b"\x49\x0f\x45\xfa\x75\xf5\x0f\x1f\x00",
        at: 11,
    };
    for FineIbt { code, template, clears, one, at } in [of_7_2, of_6_15] {
        let mut text = vec![0x90; 32];
        for part in [&b"\x75\x2e\xc3\xcc"[..], clears] {
            text.extend(part);
            text.resize(text.len().next_multiple_of(32), 0xcc);
        }
        let file = |text: &[u8]| {
            let file = with_text(text).section(".rodata", DATA, flags::RODATA, &[code, template].concat());
            file.section(".cfi_sites", TABLE, flags::RODATA, &from(TABLE, TEXT))
        };
        let marks = |file: &ElfWriter| Landmarks::of(&Image::from_bytes("made", file.build()).unwrap()).unwrap();
        let found = marks(&file(&text)).fineibt_bhi;
        assert_eq!(found, Some(BhiCode { at, one: one.to_vec(), args: TEXT + 32 }));
        assert_eq!(marks(&file(&text[1..])).fineibt_bhi, None, "it is aligned");
        let named = file(&text).symbol("__x86_return_thunk", TEXT, 0, 'T');
        assert_eq!(marks(&named).fineibt_bhi, None, "it would have a name");
        assert!(marks(&named.symbol("__bhi_args", TEXT, 0, 'T')).fineibt_bhi.is_some_and(|found| found.args == TEXT));
    }
}

#[test]
fn the_function_that_returns_zero_is_what_static_calls_are_built_with_and_the_text_compares_with() {
    let zero_in = |end: &[u8]| with_static_calls(end).return0;
    let cmp = |address: u64| [&[0x48, 0x3d][..], &(address as u32).to_le_bytes()].concat();
    let (zero, clock) = (TEXT + 0x120, TEXT + 0x160);
    assert_eq!(zero_in(&cmp(zero)), Some(zero));
    assert_eq!(zero_in(&[&[0x49, 0x81, 0xff][..], &(zero as u32).to_le_bytes()].concat()), Some(zero));
    assert_eq!(zero_in(&[0xb8; 6]), None, "as many functions return 0 as have nothing better to do");
    assert_eq!(zero_in(&[cmp(zero), cmp(clock)].concat()), None, "one of two");
}

#[test]
fn the_function_that_warns_is_told_by_its_code_and_by_that_comparison() {
    let low = |address: u64| (address as u32).to_le_bytes();
    let compares = |address: u64| [&[0x48, 0x81, 0xfe][..], &low(address)].concat();
    let warns = TEXT + 0x150;
    assert_eq!(with_static_calls(&compares(warns)).warn_trap, Some(warns));
    assert_eq!(with_static_calls(&compares(TEXT + 0x120)).warn_trap, None, "nothing compares with it");
    assert_eq!(with_static_calls(&compares(TEXT + 0x140)).warn_trap, None, "no such code");
}

#[test]
fn what_conditional_tail_calls_of_nothing_jump_to_is_loaded_beside_that_comparison() {
    let low = |address: u64| (address as u32).to_le_bytes();
    let compares = [&[0x48, 0x3d][..], &low(TEXT + 0x120)].concat();
    let loads = |address: u64| [&[0x49, 0xc7, 0xc7][..], &low(address)].concat();
    let (returns, another, zero) = (TEXT + 0x170, TEXT + 0x178, TEXT + 0x160);
    let found = |parts: &[&[u8]]| with_static_calls(&parts.concat()).static_call_return;
    assert_eq!(found(&[&loads(returns), &compares]), Some(returns));
    assert_eq!(found(&[&compares, &loads(zero), &loads(returns), &loads(returns)]), Some(returns));
    assert_eq!(found(&[&loads(returns), &loads(another), &compares]), None, "one of two");
    assert_eq!(found(&[&loads(returns), &[0x90; 0x400], &compares]), None, "of some other function");
    assert_eq!(found(&[&loads(returns)]), None);
}

/// What is taken for what in a text that ends in this.
fn with_static_calls(end: &[u8]) -> Landmarks {
    // Ten calls of one trampoline, which belong to six keys: two are built with it, one with another that returns 0, one
    // with another that does not, one with a function that warns, one with none.
    let clock = TEXT + 0x160;
    let (trampoline, zero, other) = (TEXT + 0x100, TEXT + 0x120, TEXT + 0x140);
    let mut text = vec![0xcc; 0x180];
    let mut put = |at: u64, code: &[u8]| text[(at - TEXT) as usize..][..code.len()].copy_from_slice(code);
    put(trampoline, &[&insn::jmp(trampoline, zero)[..], b"\x0f\xb9\xcc"].concat());
    put(zero, &[b"\xf3\x0f\x1e\xfa", &insn::call(zero + 4, other)[..], b"\x31\xc0\xc3"].concat());
    put(other, b"\x31\xc0\x48\x89\xf8\xc3");
    put(clock, b"\x31\xc0\xc3");
    put(TEXT + 0x150, b"\x67\x48\x0f\xb9\x3a\xc3");
    put(TEXT + 0x170, b"\xc3\xcc");
    put(TEXT + 0x178, b"\xc3\xcc");
    let mut rows = Vec::new();
    for i in 0..10u64 {
        put(TEXT + 16 * i, &insn::call(TEXT + 16 * i, trampoline));
        let place = TABLE + 8 * i;
        rows.extend([from(place, TEXT + 16 * i), from(place + 4, DATA + 16 * (i % 6))].concat());
    }
    text.extend(end);
    let keys: Vec<u8> =
        [zero, other, clock, 0, zero, TEXT + 0x150].iter().flat_map(|f| [f.to_le_bytes(), [0; 8]].concat()).collect();
    let file = with_text(&text).section(".data", DATA, flags::DATA, &keys);
    let file = file.section(".rodata", TABLE, flags::RODATA, &rows);
    Landmarks::of(&Image::from_bytes("made", file.build()).unwrap()).unwrap()
}

/// A text with a page for hypercalls and the jump of a return from interrupts, and the code that points it elsewhere.
fn with_xen(change: impl Fn(&mut Vec<u8>, &mut Vec<u8>, &mut Vec<u8>)) -> Image {
    let (page, site, iret) = (TEXT + 0x1000, TEXT + 0x2014, TEXT + 0x2100);
    let mut text = vec![0xcc; 0x3000];
    text[0x2014..0x201f].copy_from_slice(b"\xe9\0\0\0\0\xf6\x44\x24\x20\x04\x75");
    text[0x2100..0x210d].copy_from_slice(b"\x6a\0\x51\x41\x53\x50\xb8\x17\0\0\0\x0f\x05");
    let mov = |register, value: u64| [&[0x48, 0xc7, register][..], &(value as u32).to_le_bytes()].concat();
    let mut init = [mov(0xc0, site), mov(0xc2, iret)].concat();
    let note = |owner: &[u8], kind: u32, says: &[u8]| {
        let sizes = [owner.len() as u32, says.len() as u32, kind].map(u32::to_le_bytes).concat();
        let mut note = [&sizes[..], owner].concat();
        note.resize(note.len().next_multiple_of(4), 0);
        note.extend(says);
        note.resize(note.len().next_multiple_of(4), 0);
        note
    };
    let mut notes =
        [note(b"Xen\0", 6, b"linux\0"), note(b"GNU\0", 2, &DATA.to_le_bytes()), note(b"Xen\0", 2, &page.to_le_bytes())]
            .concat();
    change(&mut text, &mut init, &mut notes);
    let file = with_text(&text).section(".init.text", TABLE, flags::TEXT, &init);
    Image::from_bytes("made", file.section(".notes", DATA, flags::RODATA, &notes).build()).unwrap()
}

#[test]
fn what_xen_fills_is_told_by_the_note_and_by_the_code() {
    let marks = |image: Image| Landmarks::of(&image).map(|marks| (marks.hypercall_page, marks.xen_iret)).unwrap();
    let (page, pair) = (Some(TEXT + 0x1000), Some((TEXT + 0x2014, TEXT + 0x2100)));
    assert_eq!(marks(with_xen(|_, _, _| {})), (page, pair));
    // Through the page, as up to the fix of XSA-466.
    let jump = |to: u64| insn::jmp(TEXT + 0x2102, to);
    let through = |to: u64| marks(with_xen(|text, _, _| text[0x2102..0x2107].copy_from_slice(&jump(to))));
    assert_eq!(through(TEXT + 0x1000 + 23 * 32), (page, pair));
    assert_eq!(through(TEXT + 0x1000 + 24 * 32), (page, None), "another hypercall");
    assert_eq!(marks(with_xen(|text, _, _| text[0x2101] = 1)), (page, None), "another function");
    assert_eq!(marks(with_xen(|text, _, _| text[0x2015] = 1)), (page, None), "a jump that leads somewhere");
    assert_eq!(marks(with_xen(|_, init, _| init.truncate(10))), (page, None), "nothing names the function");
    let twice = |text: &mut Vec<u8>, init: &mut Vec<u8>, _: &mut Vec<u8>| {
        text.copy_within(0x2100..0x210d, 0x2200);
        init.extend([&[0x48, 0xc7, 0xc1][..], &((TEXT + 0x2200) as u32).to_le_bytes()].concat());
    };
    assert_eq!(marks(with_xen(twice)), (page, None), "two of them");
}

#[test]
fn a_note_that_says_nothing_of_a_page_is_passed_over() {
    let page = |change: fn(&mut Vec<u8>)| {
        let image = with_xen(|_, _, notes| change(notes));
        Landmarks::of(&image).unwrap().hypercall_page
    };
    assert_eq!(page(|notes| notes.truncate(notes.len() - 1)), None, "cut");
    assert_eq!(page(|notes| notes[0..4].fill(0xff)), None, "an owner beyond all");
    assert_eq!(page(|notes| notes[4..8].fill(0xff)), None, "a text beyond all");
    assert_eq!(page(|notes| notes.clear()), None);
    assert_eq!(page(|notes| *notes.last_mut().unwrap() = 0), None, "outside the text");
    assert_eq!(
        page(|notes| {
            let low = notes.len() - 8;
            notes[low] = 8
        }),
        None,
        "no page"
    );
    assert_eq!(
        page(|notes| {
            let low = notes.len() - 7;
            notes[low] = 0x30
        }),
        None,
        "behind the text"
    );
}
