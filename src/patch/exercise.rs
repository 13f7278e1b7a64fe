//! Reads all tables of hostile images, runs the passes of every era over them and patches: what the fuzz target and
//! the hostile-input tests call.
//!
//! It is a bug if anything panics, hangs, or breaks a promise that later rooms build on; those are asserted.

use crate::image::Image;
use crate::plan::paravirt::{self, NoRoom, Null, Pointer, Slot, Switch};
use crate::plan::{Boot, ERAS, Paravirt, boot};
use crate::sites::{Tables, intrusions};

/// Small enough that a compression bomb costs a test milliseconds.
const LIMIT: usize = 8 << 20;

/// Opens `data` as a kernel, reads its tables, and boots it in every era: once with no feature, once with all.
pub fn boots(data: &[u8]) {
    let Ok(image) = Image::from_bytes_at_most("hostile", data.to_vec(), LIMIT) else { return };
    let tables = match Tables::read(&image) {
        Ok(tables) => tables,
        Err(error) => {
            assert!(error.to_string().starts_with("hostile: "), "{error}");
            return;
        }
    };
    for intrusion in intrusions(&image, &tables) {
        assert!(intrusion.site_address < intrusion.to, "{intrusion:?}");
    }
    for rules in &ERAS {
        for word in [0, u32::MAX] {
            let machine = machine(&image, word);
            match boot(&image, &tables, &machine, rules) {
                Ok(plan) => {
                    let mut end = 0;
                    for site in plan.guesses() {
                        assert!(site.address >= end, "{:#x} overlaps the site before it", site.address);
                        end = site.address + u64::from(site.len);
                    }
                    assert!(super::image(&image, &plan).is_ok_and(|patched| patched.len() == image.bytes().len()));
                }
                Err(error) => assert!(error.to_string().starts_with("hostile: "), "{}: {error}", rules.era),
            }
        }
    }
}

fn machine(image: &Image, word: u32) -> Boot {
    let called = Slot { pointer: Pointer::Function(0xffff_ffff_8100_0000), jump: false, switch: Switch::Default };
    let rules = paravirt::TemplateRules {
        bits: image.bits(),
        nops: &crate::insn::X86_NOPS,
        call_clobbers: None,
        null: Null::Ud2,
        no_room: if word == 0 { NoRoom::Keep } else { NoRoom::Bug },
    };
    Boot {
        features: vec![word; 40],
        retpoline: Some(1),
        retpoline_lfence: Some(2),
        rethunk: Some(3),
        its: Some(4),
        call_depth: Some(5),
        return_thunk: (word != 0).then_some(0xffff_ffff_8100_0040),
        uniprocessor: word == 0,
        paravirt: Some(Paravirt { template: vec![called; 256], rules }),
        xen: word != 0,
        ..Boot::default()
    }
}
