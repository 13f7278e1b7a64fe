//! The times that a pass comes to a site: one [`Visit`] each.

use crate::plan::Pass;

/// Bytes of a return: `jmp rel32`, with a prefix at most.
pub(super) const RETURN: usize = 5;
pub(super) const LONGEST_RETURN: usize = 6;
/// Stubs of Xen's hypercall page, and their size.
pub(super) const STUBS: u32 = 128;
pub(super) const STUB: u64 = 32;

/// What a pass comes to, and the row that names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Paravirt {
        row: u32,
        slot: u16,
    },
    /// Rows that follow each other at one site.
    Alternatives {
        first: u32,
        count: u16,
    },
    Retpoline(u32),
    Return(u32),
    Endbr(u32),
    /// The hash before a function.
    Preamble(u32),
    /// The `endbr` of a function that has one.
    CheckedEndbr(u32),
    /// The check before an indirect call.
    CfiCaller(u32),
    /// The preamble of a sealed function.
    SealedHash(u32),
    Lock(u32),
    Mcount(u32),
    /// Where the code of the tracer calls a function of the kernel.
    TracerCall(u32),
    Jump {
        row: u32,
        key: u16,
    },
    Call {
        row: u32,
        key: u16,
    },
    Trampoline {
        row: u32,
        key: Option<u16>,
    },
    Constant {
        row: u32,
        table: u16,
    },
    XenIret,
    XenStub(u32),
}

/// One of the times that a pass comes to a site.
#[derive(Debug, Clone, Copy)]
pub(super) struct Visit {
    pub address: u64,
    pub len: u8,
    /// The stage of the boot, by its place in the era's order.
    pub stage: u8,
    pub kind: Kind,
}

impl Kind {
    /// The pass that writes here.
    pub fn pass(self) -> Pass {
        match self {
            Kind::Paravirt { .. } => Pass::Paravirt,
            Kind::Alternatives { .. } => Pass::Alternatives,
            Kind::Retpoline(_) => Pass::Retpolines,
            Kind::Return(_) => Pass::Returns,
            Kind::Preamble(_) | Kind::CheckedEndbr(_) => Pass::Cfi,
            Kind::CfiCaller(_) => Pass::CfiCallers,
            Kind::Endbr(_) | Kind::SealedHash(_) => Pass::Ibt,
            Kind::Lock(_) => Pass::SmpLocks,
            Kind::Mcount(_) | Kind::TracerCall(_) => Pass::Mcount,
            Kind::Jump { .. } => Pass::JumpLabels,
            Kind::Call { .. } => Pass::StaticCalls,
            Kind::Trampoline { .. } => Pass::Trampolines,
            Kind::Constant { .. } => Pass::RuntimeConst,
            Kind::XenIret | Kind::XenStub(_) => Pass::Unlisted,
        }
    }
}

/// A branch to a thunk, as built.
#[derive(Debug, Clone, Copy)]
pub(super) struct Branch {
    pub len: u8,
    /// `CALL`, `JMP`, or the second byte of `jcc rel32`.
    pub opcode: u8,
    pub conditional: bool,
    pub register: u8,
}

/// Where a slot lies, and what it holds as built.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpSlot {
    pub address: u64,
    pub built: u64,
    /// Its op type, where `.parainstructions` names it.
    pub op: Option<u8>,
}

/// A call of an op, as built.
#[derive(Debug, Clone, Copy)]
pub(super) struct Called {
    /// Its slot.
    pub slot: u16,
    /// Where it is.
    pub address: u64,
    /// Bytes of the site.
    pub len: u8,
    /// Registers it lets go, where its row says.
    pub lets_go: Option<u16>,
}
