//! Reads the site table of hostile images and patches by it: what the fuzz target and the hostile-input tests call.
//!
//! It is a bug if anything panics, hangs, or breaks a promise that later rooms build on; those are asserted.

use crate::image::Image;
use crate::insn::X86_NOPS;
use crate::patch;
use crate::plan::Plan;
use crate::plan::paravirt::{self, NoRoom, Null, Pointer, Rules, Slot, Switch};
use crate::sites::ParavirtTable;

/// Small enough that a compression bomb costs a test milliseconds.
const LIMIT: usize = 8 << 20;

/// Opens `data` as a kernel, and patches it by its own table if it has one.
pub fn table(data: &[u8]) {
    let Ok(image) = Image::from_bytes_at_most("hostile", data.to_vec(), LIMIT) else { return };
    let table = match ParavirtTable::read(&image) {
        Ok(Some(table)) => table,
        Ok(None) => return,
        Err(error) => {
            assert!(error.to_string().starts_with("hostile: .parainstructions"), "{error}");
            return;
        }
    };
    let _ = table.ops_address(image.bits());
    let nop = Slot { pointer: Pointer::Nop, jump: false, switch: Switch::Default };
    let template = vec![nop; 256];
    let rules =
        Rules { bits: image.bits(), nops: &X86_NOPS, call_clobbers: None, null: Null::Ud2, no_room: NoRoom::Bug };
    let mut plan = Plan::default();
    let site = |site: &crate::sites::Site| {
        let start = site.offset as usize;
        Ok(&image.bytes()[start..start + usize::from(site.len)])
    };
    if paravirt::plan(&table.sites, &template, &rules, site, &mut plan).is_ok() {
        assert_eq!(plan.writes().len(), table.sites.len());
        let patched = patch::image(&image, &plan);
        assert!(patched.is_ok_and(|p| p.len() == image.bytes().len()));
    }
}
