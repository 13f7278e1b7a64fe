//! The examples on an image of 4.15, made by code: each structure of ops is a variable of its own, and what `native_patch()`
//! copies stands between labels.

#![allow(clippy::expect_used)] // the image is good, or the test fails
#![allow(clippy::duplicate_mod)] // what both examples declare

mod elfwriter;
#[allow(dead_code)] // its main
#[path = "../examples/verify.rs"]
mod judging;
#[allow(dead_code)] // its main
#[path = "../examples/boot.rs"]
mod planning;

use elfwriter::{ElfWriter, flags};
use pvops::image::{Bits, Image};
use pvops::insn;
use pvops::memory::Memory;
use pvops::patch;

const TEXT: u64 = 0xffff_ffff_8100_0000;
const RODATA: u64 = 0xffff_ffff_8180_0000;
const DATA: u64 = 0xffff_ffff_8200_0000;
const SIZE: usize = 0x4000;
/// Functions, and the labels round `cli`.
const IDENTITY: u64 = TEXT + 0x3000;
const NOTHING: u64 = TEXT + 0x3010;
const DISABLE: u64 = TEXT + 0x3020;
const READ_MSR: u64 = TEXT + 0x3030;
const UNLOCK: u64 = TEXT + 0x3040;
const LABEL: u64 = TEXT + 0x3100;
const LABEL_OF_UNLOCK: u64 = TEXT + 0x3110;
/// By type: where the slot is, what it holds, what of registers its sites let go, and how a site of it ends.
const OPS: [(u64, u64, u16, &[u8]); 6] = [
    (DATA + 0x08, DISABLE, 0x1fe, b"\xfa"),
    (DATA + 0x40, READ_MSR, 0x1ff, b""), // a call
    (DATA + 0x80, IDENTITY, 0x1fe, b"\x48\x89\xf8"),
    (DATA + 0x88, NOTHING, 0x1ff, b"\x0f\x1f\x80\x00\x00\x00\x00"),
    (DATA + 0x90, READ_MSR, 0x1fe, b"\xff\x14\x25\x90\x00\x00\x82"), // a call would change what this site keeps
    (DATA + 0xc0, UNLOCK, 0x1fe, b"\xc6\x07\x00"),
];

/// An image of a release with eight calls of each op.
fn image(release: &str) -> Image {
    let mut text = vec![insn::NOP; SIZE];
    let mut put = |at: u64, code: &[u8]| text[(at - TEXT) as usize..][..code.len()].copy_from_slice(code);
    let mut rows = Vec::new();
    let mut data = vec![0; 0x100];
    for (number, (slot, held, clobbers, _)) in OPS.into_iter().enumerate() {
        data[(slot - DATA) as usize..][..8].copy_from_slice(&held.to_le_bytes());
        for site in 0..8 {
            let address = TEXT + 0x200 * number as u64 + 0x20 * site;
            put(address, &[b"\xff\x14\x25".as_slice(), &(slot as u32).to_le_bytes()].concat());
            rows.extend_from_slice(&address.to_le_bytes());
            rows.extend_from_slice(&[number as u8, 7]);
            rows.extend_from_slice(&clobbers.to_le_bytes());
            rows.extend_from_slice(&[0; 4]);
        }
    }
    put(LABEL, b"\xfa");
    put(LABEL_OF_UNLOCK, b"\xc6\x07\x00");
    [IDENTITY, NOTHING, DISABLE, READ_MSR, UNLOCK].into_iter().for_each(|function| put(function, b"\xc3"));
    let rodata = format!("Linux version %s\0Linux version {release} (a@b) (gcc 8) #1 SMP 2018\n\0");
    let mut elf = ElfWriter::new(Bits::B64)
        .section(".text", TEXT, flags::TEXT, &text)
        .section(".rodata", RODATA, flags::RODATA, rodata.as_bytes())
        .section(".data", DATA, flags::DATA, &data)
        .section(".parainstructions", 0xffff_ffff_8300_0000, flags::RODATA, &rows);
    for (name, address, kind) in [
        ("native_patch", TEXT + 0x3200, 'T'),
        ("_paravirt_ident_64", IDENTITY, 'T'),
        ("_paravirt_nop", NOTHING, 'T'),
        ("native_irq_disable", DISABLE, 't'),
        ("native_read_msr", READ_MSR, 't'),
        ("__raw_callee_save___native_queued_spin_unlock", UNLOCK, 'T'),
        ("start_pv_irq_ops_irq_disable", LABEL, 't'),
        ("end_pv_irq_ops_irq_disable", LABEL + 1, 't'),
        ("start_pv_lock_ops_queued_spin_unlock", LABEL_OF_UNLOCK, 't'),
        ("end_pv_lock_ops_queued_spin_unlock", LABEL_OF_UNLOCK + 3, 't'),
        ("pv_irq_ops", DATA, 'D'),
        ("pv_cpu_ops", DATA + 0x40, 'D'),
        ("pv_mmu_ops", DATA + 0x80, 'D'),
        ("pv_lock_ops", DATA + 0xc0, 'D'),
    ] {
        elf = elf.symbol(name, address, 0, kind);
    }
    Image::from_bytes("made", elf.build()).expect("a good image")
}

#[test]
fn each_call_becomes_what_its_slot_and_the_labels_say() {
    let image = image("4.15.0-made");
    let plan = planning::planned(&image).expect("a plan");
    let text = patch::text(&image, &plan).expect("text");
    for (number, (_, held, _, begins)) in OPS.into_iter().enumerate() {
        for site in 0..8 {
            let address = TEXT + 0x200 * number as u64 + 0x20 * site;
            let here = &text[(address - TEXT) as usize..][..7];
            let call = insn::call(address, held);
            let begins = if begins.is_empty() { &call[..] } else { begins };
            assert_eq!(&here[..begins.len()], begins, "type {number}");
        }
    }
    // 4.19 asks no site what it lets go any more: the call of type 4 is made direct.
    let image = self::image("4.19.0-made");
    let plan = planning::planned(&image).expect("a plan");
    let text = patch::text(&image, &plan).expect("text");
    assert_eq!(text[0x800..0x805], insn::call(TEXT + 0x800, READ_MSR));
}

#[test]
fn what_one_example_plans_the_other_explains_and_nothing_else() {
    let image = image("4.15.0-made");
    let mut text = patch::text(&image, &planning::planned(&image).expect("a plan")).expect("text").to_vec();
    let judged = |text: &[u8]| {
        let memory = Memory::from_bytes("text", text.to_vec()).expect("memory");
        judging::judged(&image, &memory).expect("a report").0.unexplained
    };
    assert_eq!(judged(&text), []);
    text[0x45] ^= 1; // in a nop behind a `cli`
    let runs = judged(&text);
    assert_eq!(runs.iter().map(|run| run.address).collect::<Vec<_>>(), [TEXT + 0x45]);
}

#[test]
fn a_kernel_of_which_nothing_is_declared_is_refused() {
    let image = image("2.6.20-made");
    assert!(planning::planned(&image).expect_err("no rules").to_string().contains("nothing is declared here"));
    let memory = Memory::from_bytes("text", vec![0; SIZE]).expect("memory");
    assert!(judging::judged(&image, &memory).expect_err("no rules").to_string().contains("declared here are 2.6.24"));
}
