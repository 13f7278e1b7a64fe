//! `apply_paravirt()`: what becomes of each row of `.parainstructions`.
//!
//! The outer loop has been the same since 2007: copy the site into the insn buffer, let the backend's patch function
//! edit it, fill what it left over with nops, write it back. The decisions inside differ by era:
//!
//! | | 2.6.24 | 2.6.33 | 5.10 | 6.1 |
//! |---|---|---|---|---|
//! | NULL | `ud2` | `ud2` | `ud2` | `call paravirt_BUG` |
//! | `_paravirt_nop` | nops | nops | nops | nops |
//! | `_paravirt_ident_*` | – | `mov` (64-bit) or nops | `mov` | – |
//! | ops that do not return (`iret`) | `jmp` | `jmp` | `jmp` | – |
//! | else | `call` | `call` | `call` | `call` |
//! | clobbers checked | yes | yes | no | no |
//! | no room | keep | keep | BUG | BUG |
//!
//! [`TemplateRules`] is one such column; a [`Slot`] is what one op's slot holds, with what the backend's patch function does
//! with its type before the rules above are asked. Sources: arch/x86/kernel/{alternative,paravirt,paravirt_patch}.c of
//! each era. Clobbers are not checked since 4.19 (5800dc5c19f3), no room is a BUG since 5.3 (fb2af0712fe8),
//! `paravirt_patch()` is the only patch function since 5.13 (054ac8ad5ebe), and 6.8 has none (60bc276b129e,
//! f7af6977621a).

use super::decision::{Decision, Kind, Reason};
use super::passes::Pass;
use super::run::Run;
pub use super::template::{Inline, NoRoom, Null, Pointer, RomAnswer, Slot, Switch, TemplateRules};
use crate::error::{Error, Result};
use crate::insn::{self, Bits, MAX_PATCH_LEN};
use crate::sites::Site;

const UD2: &[u8] = b"\x0f\x0b";
const MOV_EDI_EAX: &[u8] = b"\x89\xf8";
const MOV_RDI_RAX: &[u8] = b"\x48\x89\xf8";

/// `apply_paravirt()` over all sites, in table order. A type outside the template and whatever makes the kernel `BUG()` are
/// errors that name the row.
pub(super) fn apply(run: &mut Run<'_>) -> Result<()> {
    let Some(table) = &run.tables.paravirt else { return Ok(()) };
    let Some(paravirt) = &run.boot.paravirt else {
        return Err(Error::ops("the image has paravirt sites, and nothing says what the ops are"));
    };
    let Run { memory, plan, within, .. } = run;
    let mut buffer = [0; 256];
    for (row, site) in (0..).zip(&table.sites) {
        if within.is_some_and(|within| !within.has(site.address)) {
            continue;
        }
        let placed = |e: Error| e.in_section(".parainstructions").at_row(row as usize).at_address(site.address);
        let slot = slot(&paravirt.template, site).map_err(placed)?;
        let code = &mut buffer[..usize::from(site.len)];
        code.copy_from_slice(memory.read(site.address, code.len()).map_err(placed)?);
        let clobbers = site.clobbers.unwrap_or(0);
        let decision = patch_site(slot, &paravirt.rules, clobbers, site.address, code).map_err(placed)?;
        memory.poke(site.address, code).map_err(placed)?;
        plan.push(site.address, Pass::Paravirt, row, code, decision);
    }
    Ok(())
}

fn slot<'a>(template: &'a [Slot], site: &Site) -> Result<&'a Slot> {
    template.get(usize::from(site.op_type)).ok_or_else(|| {
        Error::table(format!("type {} is outside the template of {} slots", site.op_type, template.len()))
    })
}

/// One turn of `apply_paravirt()`: patches the buffer, which holds the site, and fills the rest of it with nops.
pub fn patch_site(
    slot: &Slot,
    rules: &TemplateRules,
    clobbers: u16,
    address: u64,
    buffer: &mut [u8],
) -> Result<Decision> {
    if buffer.len() > MAX_PATCH_LEN {
        return Err(Error::bug(format!(
            "BUG: a site of {} bytes, the insn buffer holds {MAX_PATCH_LEN} (apply_paravirt)",
            buffer.len()
        )));
    }
    let decision = patch_function(slot, rules, clobbers, address, buffer)?;
    rules.nops.fill(&mut buffer[decision.used.into()..]);
    Ok(decision)
}

/// The backend's patch function alone: edits the buffer, and leaves what it did not use as it was.
pub fn patch_function(
    slot: &Slot,
    rules: &TemplateRules,
    clobbers: u16,
    address: u64,
    buffer: &mut [u8],
) -> Result<Decision> {
    Patcher { rules, clobbers, address }.patch(slot, buffer)
}

/// The functions of paravirt.c, for one site.
struct Patcher<'a> {
    rules: &'a TemplateRules,
    clobbers: u16,
    address: u64,
}

impl Patcher<'_> {
    /// The backend's `pv_init_ops.patch`.
    fn patch(&self, slot: &Slot, buffer: &mut [u8]) -> Result<Decision> {
        match &slot.switch {
            Switch::Default => self.default(slot, buffer),
            Switch::Ignore => Ok(kept(Reason::Ignored, buffer)),
            Switch::Rom(answer) => self.rom(*answer, buffer),
            Switch::Inline(inline) => {
                let reason = match inline.only_while {
                    Some(function) if slot.pointer != Pointer::Function(function) => return self.default(slot, buffer),
                    Some(_) => Reason::ByTypeAndFunction,
                    None => Reason::ByType,
                };
                if inline.no_room == NoRoom::Default && inline.code.len() > buffer.len() {
                    return self.default(slot, buffer);
                }
                let decision = self.copy(&inline.code, Kind::Inlined, reason, inline.no_room, buffer)?;
                if let (Kind::Inlined, Some((offset, target))) = (decision.kind, inline.relocation) {
                    self.relocate(offset, target, &mut buffer[..decision.used.into()])?;
                }
                Ok(decision)
            }
        }
    }

    /// `paravirt_patch_default()`, 6.1's `paravirt_patch()`.
    fn default(&self, slot: &Slot, buffer: &mut [u8]) -> Result<Decision> {
        let no_room = self.rules.no_room;
        match (slot.pointer, self.rules.bits) {
            (Pointer::Null, _) => match self.rules.null {
                Null::Ud2 => self.copy(UD2, Kind::Trapped, Reason::NullPointer, no_room, buffer),
                Null::Call(bug) => self.call(bug, Kind::BugCalled, Reason::NullPointer, buffer),
            },
            (Pointer::Nop, _) => Ok(Decision { kind: Kind::Nopped, reason: Reason::NopPointer, used: 0 }),
            // i386 passes and returns 32 bits in %eax, 64 in %edx:%eax: nothing to move.
            (Pointer::Ident32, Bits::B32) => Ok(Decision { kind: Kind::Nopped, reason: Reason::Identity(32), used: 0 }),
            (Pointer::Ident64, Bits::B32) => Ok(Decision { kind: Kind::Nopped, reason: Reason::Identity(64), used: 0 }),
            (Pointer::Ident32, Bits::B64) => self.copy(MOV_EDI_EAX, Kind::Moved, Reason::Identity(32), no_room, buffer),
            (Pointer::Ident64, Bits::B64) => self.copy(MOV_RDI_RAX, Kind::Moved, Reason::Identity(64), no_room, buffer),
            (Pointer::Function(target), _) if slot.jump => self.jump(target, Reason::JumpingFunction, buffer),
            (Pointer::Function(target), _) => self.call(target, Kind::Called, Reason::Function, buffer),
        }
    }

    fn call(&self, target: u64, kind: Kind, reason: Reason, buffer: &mut [u8]) -> Result<Decision> {
        if let Some(call) = self.rules.call_clobbers
            && call & !self.clobbers != 0
        {
            return Ok(kept(Reason::Clobbers { site: self.clobbers, call }, buffer));
        }
        self.copy(&insn::call(self.address, target), kind, reason, self.rules.no_room, buffer)
    }

    fn jump(&self, target: u64, reason: Reason, buffer: &mut [u8]) -> Result<Decision> {
        // paravirt_patch_jmp() keeps a site that is too short, whatever paravirt_patch_insns() does.
        self.copy(&insn::jmp(self.address, target), Kind::Jumped, reason, NoRoom::Keep, buffer)
    }

    /// `patch_internal()` of vmi_32.c; it looks at neither the slot nor the clobbers.
    fn rom(&self, answer: RomAnswer, buffer: &mut [u8]) -> Result<Decision> {
        let (code, kind) = match answer {
            RomAnswer::None => return Ok(kept(Reason::Rom, buffer)),
            RomAnswer::Nop => return Ok(Decision { kind: Kind::Nopped, reason: Reason::Rom, used: 0 }),
            RomAnswer::CallRel(target) => (insn::call(self.address, target), Kind::Called),
            RomAnswer::JumpRel(target) => (insn::jmp(self.address, target), Kind::Jumped),
            RomAnswer::Unknown(kind) => {
                return Err(Error::bug(format!("BUG: VMI's ROM answers with relocation type {kind} (patch_internal)")));
            }
        };
        self.copy(&code, kind, Reason::Rom, NoRoom::Bug, buffer)
    }

    fn copy(&self, code: &[u8], kind: Kind, reason: Reason, no_room: NoRoom, buffer: &mut [u8]) -> Result<Decision> {
        if let Some(head) = buffer.get_mut(..code.len()) {
            head.copy_from_slice(code);
            // The insn buffer holds 254 bytes.
            return Ok(Decision { kind, reason, used: code.len() as u16 });
        }
        let (need, have) = (code.len(), buffer.len());
        match no_room {
            NoRoom::Bug => Err(Error::bug(format!("BUG: {need} bytes to patch into a site of {have}"))),
            NoRoom::Keep | NoRoom::Default => Ok(kept(Reason::NoRoom { need: need as u16, have: have as u16 }, buffer)),
        }
    }

    fn relocate(&self, offset: usize, target: u64, code: &mut [u8]) -> Result<()> {
        let Some(field) = offset.checked_add(4).and_then(|end| code.get_mut(offset..end)) else {
            return Err(Error::ops(format!("a relocation at offset {offset} of {} bytes of code", code.len())));
        };
        let next = self.address.wrapping_add(offset as u64 + 4);
        field.copy_from_slice(&(target.wrapping_sub(next) as u32).to_le_bytes());
        Ok(())
    }
}

fn kept(reason: Reason, buffer: &[u8]) -> Decision {
    Decision { kind: Kind::Kept, reason, used: buffer.len() as u16 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::insn::{P6_NOPS, X86_NOPS};

    const SITE: u64 = 0xffff_ffff_8100_0000;
    const TARGET: u64 = 0xffff_ffff_8100_1005;

    fn rules_6_1() -> TemplateRules {
        TemplateRules {
            bits: Bits::B64,
            nops: &X86_NOPS,
            call_clobbers: None,
            null: Null::Call(0xffff_ffff_8100_2005),
            no_room: NoRoom::Bug,
        }
    }

    fn rules_2_6_24() -> TemplateRules {
        TemplateRules {
            bits: Bits::B32,
            nops: &P6_NOPS,
            call_clobbers: Some(7),
            null: Null::Ud2,
            no_room: NoRoom::Keep,
        }
    }

    fn holding(pointer: Pointer) -> Slot {
        Slot { pointer, jump: false, switch: Switch::Default }
    }

    fn patched(slot: &Slot, rules: &TemplateRules, clobbers: u16, before: &[u8]) -> (Kind, Vec<u8>) {
        let mut buffer = before.to_vec();
        let decision = patch_site(slot, rules, clobbers, SITE, &mut buffer).expect("no BUG");
        (decision.kind, buffer)
    }

    #[test]
    fn a_class_in_use_costs_a_direct_call_and_an_unused_one_a_six_byte_nop() {
        // Fitzhardinge 2010: "their baseline overhead amounts to a 6 byte nop. When in use, they are a direct call (or
        // <= 6 bytes of inlined instruction)."
        let site = b"\xff\x15\x00\x00\x00\x00";
        let called = patched(&holding(Pointer::Function(TARGET)), &rules_6_1(), 0, site);
        assert_eq!(called, (Kind::Called, b"\xe8\x00\x10\x00\x00\x90".to_vec()));
        let unused = patched(&holding(Pointer::Nop), &rules_6_1(), 0, site);
        assert_eq!(unused, (Kind::Nopped, b"\x66\x0f\x1f\x44\x00\x00".to_vec()));
        let inline = Inline { code: Box::new(*b"\x9c\x58"), only_while: None, no_room: NoRoom::Keep, relocation: None };
        let slot = Slot { switch: Switch::Inline(inline), ..holding(Pointer::Function(TARGET)) };
        assert_eq!(patched(&slot, &rules_6_1(), 0, site), (Kind::Inlined, b"\x9c\x58\x0f\x1f\x40\x00".to_vec()));
    }

    #[test]
    fn a_call_that_clobbers_more_than_the_site_lets_go_leaves_the_indirect_call() {
        let site = b"\x51\x52\xff\x15\x00\x00\x40\xc0\x5a\x59";
        let slot = holding(Pointer::Function(0xc010_0000));
        assert_eq!(patched(&slot, &rules_2_6_24(), 1, site), (Kind::Kept, site.to_vec()));
        assert_eq!(patched(&slot, &rules_2_6_24(), 7, site).0, Kind::Called);
    }

    #[test]
    fn what_a_null_slot_becomes_is_the_eras_choice() {
        let site = [0x90; 6];
        assert_eq!(patched(&holding(Pointer::Null), &rules_2_6_24(), 7, &site).1[..2], *UD2);
        let (kind, bytes) = patched(&holding(Pointer::Null), &rules_6_1(), 0, &site);
        assert_eq!((kind, bytes), (Kind::BugCalled, b"\xe8\x00\x20\x00\x00\x90".to_vec()));
    }

    #[test]
    fn no_room_keeps_the_site_or_is_a_bug() {
        let slot = holding(Pointer::Function(0xc010_0000));
        assert_eq!(patched(&slot, &rules_2_6_24(), 7, &[0xff; 4]), (Kind::Kept, vec![0xff; 4]));
        let slot = holding(Pointer::Function(TARGET));
        let error = patch_site(&slot, &rules_6_1(), 0, SITE, &mut [0xff; 4]).expect_err("a BUG");
        assert_eq!(error.kind, crate::error::ErrorKind::Bug);
        let jumping = Slot { jump: true, ..holding(Pointer::Function(TARGET)) };
        assert_eq!(patched(&jumping, &rules_6_1(), 0, &[0xff; 4]), (Kind::Kept, vec![0xff; 4]));
    }

    #[test]
    fn the_insn_buffer_holds_254_bytes() {
        let slot = holding(Pointer::Nop);
        assert!(patch_site(&slot, &rules_2_6_24(), 7, SITE, &mut [0; 254]).is_ok());
        assert!(patch_site(&slot, &rules_2_6_24(), 7, SITE, &mut [0; 255]).is_err());
    }

    #[test]
    fn a_guarded_inline_falls_back_when_the_slot_holds_another_function() {
        let inline = Inline {
            code: Box::new(*b"\xc6\x07\x00"),
            only_while: Some(TARGET),
            no_room: NoRoom::Bug,
            relocation: None,
        };
        let slot = |target| Slot { switch: Switch::Inline(inline.clone()), ..holding(Pointer::Function(target)) };
        assert_eq!(patched(&slot(TARGET), &rules_6_1(), 0, &[0; 6]).0, Kind::Inlined);
        assert_eq!(patched(&slot(TARGET + 16), &rules_6_1(), 0, &[0; 6]).0, Kind::Called);
    }
}
