//! Calls that are counted (`retbleed=stuff`): those of ops too, while `.parainstructions` listed them (6.2 to 6.7).

#![allow(clippy::expect_used)] // no BUG where none is expected

use pvops::image::Bits;
use pvops::insn::{self, X86_11_NOPS};
use pvops::plan::paravirt::{NoRoom, Null, Pointer, Slot, Switch, TemplateRules};
use pvops::plan::{Boot, Landmarks, LoadedCode, Paravirt, Rules, Run};
use pvops::sites::paravirt::Layout;
use pvops::sites::{AddressTable, ParavirtTable, Site, Tables};

const TEXT: u64 = 0xffff_ffff_8100_0000;
const TEMPLATE: &[u8] = b"\x65\x48\xc1\x3c\x25\x00\x10\x00\x00\x05";
const TEMPLATE_AT: u64 = 0xffff_ffff_8200_0000;
/// Functions with room before them: an op's, another, and a stub of Xen's page.
const OP: u64 = TEXT + 0x110;
const OTHER: u64 = TEXT + 0x210;
const PAGE: u64 = TEXT + 0x300;
const CALL_DEPTH: u16 = 3;
const CALL_AT: u64 = 0x40;

fn op_site(address: u64, op_type: u8) -> Site {
    Site { address, offset: 0, section: 0, op_type, len: 6, clobbers: None, branch: None, bare: false }
}

/// The text after a boot that counts calls, or does not.
fn booted(counts: bool) -> Vec<u8> {
    let mut text = vec![0xcc; 0x400];
    let mut put = |at: u64, code: &[u8]| text[at as usize..][..code.len()].copy_from_slice(code);
    for site in [0, 0x20] {
        put(site, b"\xff\x15\x00\x00\x00\x01");
    }
    put(CALL_AT, &insn::call(TEXT + CALL_AT, OTHER));
    for function in [OP, OTHER, PAGE] {
        put(function - TEXT - TEMPLATE.len() as u64, &[insn::NOP; TEMPLATE.len()]);
    }
    let slots = [OP, PAGE].map(|to| Slot { pointer: Pointer::Function(to), jump: false, switch: Switch::Default });
    let rules = TemplateRules {
        bits: Bits::B64,
        nops: &X86_11_NOPS,
        call_clobbers: None,
        null: Null::Ud2,
        no_room: NoRoom::Bug,
    };
    let boot = Boot {
        features: vec![u32::from(counts) << CALL_DEPTH],
        call_depth: Some(CALL_DEPTH),
        nops: &X86_11_NOPS,
        paravirt: Some(Paravirt { template: slots.to_vec(), rules }),
        ..Boot::default()
    };
    let tables = Tables {
        paravirt: Some(ParavirtTable {
            layout: Layout::of_2007(Bits::B64),
            sites: vec![op_site(TEXT, 0), op_site(TEXT + 0x20, 1)],
        }),
        call_sites: AddressTable { section: ".call_sites".to_owned(), sites: vec![TEXT + CALL_AT] },
        ..Tables::default()
    };
    let marks = Landmarks {
        text: (TEXT, TEXT + 0x400),
        call_template: Some((TEMPLATE_AT, TEMPLATE_AT + TEMPLATE.len() as u64)),
        hypercall_page: Some(PAGE),
        ..Landmarks::default()
    };
    let memory = LoadedCode::new(Bits::B64, [(TEXT, &text[..])]);
    let data = |_, len: usize| TEMPLATE.get(..len);
    let rules = Rules::by_name("6.5").expect("an era");
    let (_, memory) = Run::new(memory, &tables, &marks, &boot, rules, &data).all().expect("no BUG");
    memory.from(TEXT).to_vec()
}

#[test]
fn calls_of_ops_go_to_the_pads_too_but_xens_page_has_none() {
    let text = booted(true);
    let call = |at: u64| &text[at as usize..][..5];
    let pad = |function: u64| function - TEMPLATE.len() as u64;
    let before = |function: u64| &text[(pad(function) - TEXT) as usize..][..TEMPLATE.len()];
    assert_eq!(call(CALL_AT), insn::call(TEXT + CALL_AT, pad(OTHER)));
    assert_eq!(call(0), insn::call(TEXT, pad(OP)));
    assert_eq!((before(OP), before(OTHER)), (TEMPLATE, TEMPLATE));
    assert_eq!(before(PAGE), [insn::NOP; TEMPLATE.len()]);
    assert_ne!(call(0x20), insn::call(TEXT + 0x20, pad(PAGE)));
}

#[test]
fn without_the_feature_nothing_is_counted() {
    let text = booted(false);
    assert_eq!(text[..5], insn::call(TEXT, OP));
    assert_eq!(text[CALL_AT as usize..][..5], insn::call(TEXT + CALL_AT, OTHER));
    assert!(!text.windows(TEMPLATE.len()).any(|code| code == TEMPLATE));
}
