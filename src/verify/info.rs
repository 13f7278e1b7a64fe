//! What the image and its era say, in numbers and addresses: names are known to the caller alone.

use std::collections::HashMap;

use crate::insn::NopTable;

/// The features that sites of other tables than `.altinstructions` depend on, by number; `None` where the kernel has
/// none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FeatureNumbers {
    /// `X86_FEATURE_RETPOLINE`.
    pub retpoline: Option<u16>,
    /// `X86_FEATURE_RETPOLINE_LFENCE`.
    pub retpoline_lfence: Option<u16>,
    /// `X86_FEATURE_RETHUNK`.
    pub rethunk: Option<u16>,
    /// `X86_FEATURE_INDIRECT_THUNK_ITS`.
    pub its: Option<u16>,
    /// `X86_FEATURE_CALL_DEPTH`.
    pub call_depth: Option<u16>,
    /// `X86_FEATURE_XENPV`.
    pub xenpv: Option<u16>,
}

/// What a guest's patch function copies over a site that has the room for it, while the op's slot holds its function.
#[derive(Debug, Clone, Default)]
pub struct Direct {
    /// The function.
    pub function: u64,
    /// Its code.
    pub code: Box<[u8]>,
    /// Where in the code a call is relative, and what it goes to.
    pub relocation: Option<(usize, u64)>,
}

/// What a patch function does with an op's type.
#[derive(Debug, Clone, Default)]
pub struct Inlined {
    /// The code it copies; none, where it leaves the type to the default rules.
    pub code: Option<Box<[u8]>>,
    /// Copied only while the slot holds this function.
    pub only_while: Option<u64>,
    /// Not on a CPU with this feature.
    pub unless: Option<u16>,
    /// Sites of this op jump.
    pub jump: bool,
    /// What the patch functions of other backends than the native one copy.
    pub direct: Vec<Direct>,
}

impl Inlined {
    /// What becomes of a site of so many bytes where the slot holds this function, by a guest's patch function.
    pub fn direct(&self, function: u64, room: usize) -> Option<&Direct> {
        self.direct.iter().find(|direct| direct.function == function && direct.code.len() <= room)
    }
}

impl Direct {
    /// The code at an address.
    pub fn at(&self, address: u64) -> Box<[u8]> {
        let mut code = self.code.clone();
        if let Some((offset, target)) = self.relocation
            && let Some(field) = offset.checked_add(4).and_then(|end| code.get_mut(offset..end))
        {
            let next = address.wrapping_add(offset as u64 + 4);
            field.copy_from_slice(&(target.wrapping_sub(next) as u32).to_le_bytes());
        }
        code
    }
}

/// What the era's `.parainstructions` pass does, as far as the tables do not tell.
#[derive(Debug, Clone, Default)]
pub struct Ops {
    /// By op type.
    pub inlined: Vec<Inlined>,
    /// The function that counts as nothing to do.
    pub nop: Option<u64>,
    /// The functions that return their argument, and of how many bits.
    pub identities: Vec<(u64, u8)>,
    /// What a NULL op becomes a call to; `ud2` where there is none.
    pub bug: Option<u64>,
    /// Registers that a call clobbers, where the kernel makes none that a site does not let go of all of them (to 4.18).
    pub call_clobbers: Option<u16>,
    /// Where the slots lie, by op type, where each structure is a variable of its own (to 4.19); else one after the other.
    pub places: Vec<u64>,
    /// The kernel has the option `noreplace-paravirt` (to 4.15), by which all calls stay as built.
    pub may_stay: bool,
}

impl Ops {
    /// Of how many bits a function returns its argument, if it does nothing else.
    pub fn identity(&self, function: u64) -> Option<u8> {
        self.identities.iter().find(|(address, _)| *address == function).map(|&(_, bits)| bits)
    }
}

/// What the image and its era say, with the names that only Python knows.
#[derive(Debug, Clone, Default)]
pub struct KernelInfo {
    /// The features that other tables depend on.
    pub numbers: FeatureNumbers,
    /// `.parainstructions`.
    pub ops: Ops,
    /// What may fill the ops.
    pub backends: Vec<PossibleBackend>,
    /// The nop tables this era chooses from; the first is what it takes where nothing tells.
    pub nops: Vec<&'static NopTable>,
}

/// What a backend may put into op slots and static calls: those that the image's own contents do not settle, by address.
#[derive(Debug, Clone, Default)]
pub struct PossibleBackend {
    /// Its name.
    pub name: String,
    /// What a slot may hold, by its address; for one that is not listed, what the image has.
    pub slots: HashMap<u64, Vec<u64>>,
    /// Where a static call may go, by address of its key; besides, where the image has it go.
    pub calls: HashMap<u64, Vec<u64>>,
    /// A feature without which it is not this one.
    pub requires: Option<u16>,
    /// A static call that may go to a page outside the kernel (Hyper-V's hypercall page), by address of its key.
    pub page: Option<u64>,
}
