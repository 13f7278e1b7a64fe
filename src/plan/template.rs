//! What the ops are to `apply_paravirt()`: one slot for each type, with what the backend's patch function does with it, and
//! the choices of an era for one kernel.

use crate::insn::{Bits, NopTable};

/// What a slot of the template holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pointer {
    /// NULL: the kernel must never call it.
    Null,
    /// `_paravirt_nop`: nothing to do.
    Nop,
    /// `_paravirt_ident_32`: returns its argument, in an era that knows so.
    Ident32,
    /// `_paravirt_ident_64`: likewise.
    Ident64,
    /// Any other function, at this address.
    Function(u64),
}

/// What happens where a replacement is longer than its site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoom {
    /// The site stays as it was built.
    Keep,
    /// The default rules are asked instead.
    Default,
    /// The kernel stops with `BUG()`.
    Bug,
}

/// Code a patch function copies over a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inline {
    /// The instructions.
    pub code: Box<[u8]>,
    /// Copied only while the slot holds this function; else the default rules are asked.
    pub only_while: Option<u64>,
    /// What happens where it is longer than the site.
    pub no_room: NoRoom,
    /// A rel32 to fix up for the new place: its offset in `code`, and the address it refers to.
    pub relocation: Option<(usize, u64)>,
}

/// What VMI's ROM answers for a call (`struct vmi_relocation_info`, 2.6.24 include/asm-x86/vmi.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RomAnswer {
    /// `VMI_RELOCATION_NONE`: leave the native code in place.
    None,
    /// `VMI_RELOCATION_CALL_REL`: call this address.
    CallRel(u64),
    /// `VMI_RELOCATION_JUMP_REL`: jump to this address.
    JumpRel(u64),
    /// `VMI_RELOCATION_NOP`: obliterate the site.
    Nop,
    /// A type the kernel does not know.
    Unknown(u8),
}

/// What the backend's patch function does with a type, before or instead of the default rules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Switch {
    /// Not in its switch: `paravirt_patch_default()`.
    #[default]
    Default,
    /// It copies code.
    Inline(Inline),
    /// It asks VMI's ROM.
    Rom(RomAnswer),
    /// It returns the length of the site: nothing changes (`vmi_patch`).
    Ignore,
}

/// One slot of the template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// What it holds.
    pub pointer: Pointer,
    /// Its sites jump: patched to a `jmp`, not a `call`.
    pub jump: bool,
    /// What the patch function does with its type.
    pub switch: Switch,
}

/// What a NULL slot becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Null {
    /// `ud2`.
    Ud2,
    /// A call to `paravirt_BUG()`, at this address.
    Call(u64),
}

/// The rules of an era for one kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TemplateRules {
    /// Pointer size.
    pub bits: Bits,
    /// What the rest of a site is filled with.
    pub nops: &'static NopTable,
    /// Registers a C function clobbers (`CLBR_ANY`), checked against what the site lets go; `None`: not checked.
    pub call_clobbers: Option<u16>,
    /// What a NULL slot becomes.
    pub null: Null,
    /// What happens to a call, jump or `mov` that is longer than its site.
    pub no_room: NoRoom,
}
