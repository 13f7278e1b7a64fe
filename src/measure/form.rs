//! The forms a call site can take, and the machine that makes each: what the era's passes are told so that they leave it.
//!
//! | form | as built | the passes leave | because |
//! |---|---|---|---|
//! | `empty` | nothing | nothing | |
//! | `nop6` | `call *pv_ops(%rip)` | a nop of 6 bytes | the slot holds `_paravirt_nop` |
//! | `inline` | the same | `pushf; pop %rax` and a nop | an alternative, not on Xen PV |
//! | `inline_irq_disable`, `inline_irq_enable` | the same | one byte and a nop | the same |
//! | `inline_unlock` | the same | `movb $0,(%rdi)` and a nop | the same |
//! | `direct_call` | the same | `call` of the slot's function | the default |
//! | `indirect_call` | the same | what was built | no pass ran |
//! | `retpoline` | `call __x86_indirect_thunk_rax` | what was built | the feature is set |
//! | `register_call` | the same | `call *%rax` | no retpolines |
//! | `lfence_call` | the same | `lfence; call *%rax` | AMD's former choice |
//! | `return_thunk` | `call *pv_ops(%rip)` | `call` of a function that ends in `jmp __x86_return_thunk` | the feature is set |
//! | `save_thunk_4`, `save_thunk_8` | the same | `call` of a thunk that keeps 4, or all 8, registers | the slot holds the thunk |
//! | `alternative` | `jmp` to a test of the bit | a nop of 5 bytes | the feature is there |
//! | `jump_over` | the same | `jmp` over the code for the feature | it is not |

use crate::image::Bits;
use crate::insn::X86_NOPS;
use crate::plan::paravirt::{NoRoom, Null, Pointer, Slot, Switch, TemplateRules};
use crate::plan::{Boot, Paravirt};

/// One form of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// No site at all: what all others are compared with.
    Empty,
    /// Six bytes of nop.
    Nop6,
    /// `save_fl` in place.
    Inline,
    /// `irq_disable` in place, stood in for.
    InlineIrqDisable,
    /// `irq_enable` in place, stood in for.
    InlineIrqEnable,
    /// `queued_spin_unlock` in place.
    InlineUnlock,
    /// A call of an empty function.
    DirectCall,
    /// A call through the ops.
    IndirectCall,
    /// A call through a retpoline.
    Retpoline,
    /// A call through a register: where no retpolines are wanted.
    RegisterCall,
    /// The same behind a fence.
    LfenceCall,
    /// A call of a function that returns through the thunk.
    ReturnThunk,
    /// A call of a function through a thunk that keeps four registers.
    SaveThunk4,
    /// The same, eight registers: what x86-64 keeps.
    SaveThunk8,
    /// `static_cpu_has()` where the CPU has the feature.
    Alternative,
    /// `static_cpu_has()` where it has not.
    JumpOver,
}

/// Every form, in the order of reports.
pub const FORMS: [Form; 16] = [
    Form::Empty,
    Form::Nop6,
    Form::Inline,
    Form::InlineIrqDisable,
    Form::InlineIrqEnable,
    Form::InlineUnlock,
    Form::DirectCall,
    Form::IndirectCall,
    Form::Retpoline,
    Form::RegisterCall,
    Form::LfenceCall,
    Form::ReturnThunk,
    Form::SaveThunk4,
    Form::SaveThunk8,
    Form::Alternative,
    Form::JumpOver,
];

/// How many ops the sites of a region call in turn.
pub(super) const OPS: usize = 64;

/// Numbers of features, on a machine that has nothing else.
mod feature {
    pub const XENPV: u16 = 0;
    pub const RETPOLINE: u16 = 1;
    pub const RETPOLINE_LFENCE: u16 = 2;
    pub const RETHUNK: u16 = 3;
    pub const ASKED: u16 = 4;
    pub const ALWAYS: u16 = 5;
}

/// What is built at a site.
pub(super) enum Built {
    /// Nothing.
    Nothing,
    /// `call *pv_ops(%rip)`, with the code that an alternative has for it.
    Paravirt(&'static [u8]),
    /// `call __x86_indirect_thunk_rax`.
    Thunk,
    /// `jmp` to a test, with this many bytes of code for a CPU that has the feature.
    CpuHas(usize),
}

impl Form {
    /// The name in documents.
    pub fn name(self) -> &'static str {
        match self {
            Form::Empty => "empty",
            Form::Nop6 => "nop6",
            Form::Inline => "inline",
            Form::InlineIrqDisable => "inline_irq_disable",
            Form::InlineIrqEnable => "inline_irq_enable",
            Form::InlineUnlock => "inline_unlock",
            Form::DirectCall => "direct_call",
            Form::IndirectCall => "indirect_call",
            Form::Retpoline => "retpoline",
            Form::RegisterCall => "register_call",
            Form::LfenceCall => "lfence_call",
            Form::ReturnThunk => "return_thunk",
            Form::SaveThunk4 => "save_thunk_4",
            Form::SaveThunk8 => "save_thunk_8",
            Form::Alternative => "alternative",
            Form::JumpOver => "jump_over",
        }
    }

    /// The op whose native code is inlined, and that code: the last tables that listed it are those of 5.10; 6.1 has the
    /// same bytes as alternatives (`PVOP_ALT_CALLEE*`).
    pub fn inlines(self) -> Option<(&'static str, &'static [u8])> {
        match self {
            Form::Inline => Some(("pv_irq_ops.save_fl", b"\x9c\x58")),
            Form::InlineIrqDisable => Some(("pv_irq_ops.irq_disable", b"\xfa")),
            Form::InlineIrqEnable => Some(("pv_irq_ops.irq_enable", b"\xfb")),
            Form::InlineUnlock => Some(("pv_lock_ops.queued_spin_unlock", b"\xc6\x07\x00")),
            _ => None,
        }
    }

    /// What runs instead of a privileged op's code: as long, and any program may.
    pub fn stand_in(self) -> Option<&'static [u8]> {
        match self {
            Form::InlineIrqDisable => Some(b"\xf8"), // clc for cli
            Form::InlineIrqEnable => Some(b"\xf9"),  // stc for sti
            _ => None,
        }
    }

    pub(super) fn built(self) -> Built {
        match self {
            Form::Empty => Built::Nothing,
            Form::Retpoline | Form::RegisterCall | Form::LfenceCall => Built::Thunk,
            Form::Alternative => Built::CpuHas(0),
            Form::JumpOver => Built::CpuHas(16),
            _ => Built::Paravirt(self.stand_in().or(self.inlines().map(|(_, code)| code)).unwrap_or_default()),
        }
    }

    /// Whether any pass runs at all.
    pub(super) fn patched(self) -> bool {
        self != Form::IndirectCall
    }

    /// How many registers the functions in the ops keep in a thunk of their own; `None`: they are called as they are.
    pub(super) fn saved(self) -> Option<usize> {
        match self {
            Form::SaveThunk4 => Some(4),
            Form::SaveThunk8 => Some(8),
            _ => None,
        }
    }

    /// The machine of this form. `ops` are the addresses the ops hold, `bug` is where `paravirt_BUG` would be.
    pub(super) fn machine(self, ops: &[u64], bug: u64) -> Boot {
        let has: &[u16] = match self {
            Form::Retpoline => &[feature::RETPOLINE],
            Form::LfenceCall => &[feature::RETPOLINE, feature::RETPOLINE_LFENCE],
            Form::ReturnThunk => &[feature::RETHUNK],
            Form::Alternative => &[feature::ASKED],
            _ => &[],
        };
        let word = has.iter().fold(1 << feature::ALWAYS, |word, bit| word | 1 << bit);
        let slot = |&function: &u64| {
            let pointer = if self == Form::Nop6 { Pointer::Nop } else { Pointer::Function(function) };
            Slot { pointer, jump: false, switch: Switch::Default }
        };
        let rules = TemplateRules {
            bits: Bits::B64,
            nops: &X86_NOPS,
            call_clobbers: None,
            null: Null::Call(bug),
            no_room: NoRoom::Bug,
        };
        Boot {
            features: vec![word],
            retpoline: Some(feature::RETPOLINE),
            retpoline_lfence: Some(feature::RETPOLINE_LFENCE),
            rethunk: Some(feature::RETHUNK),
            nops: &X86_NOPS,
            paravirt: Some(Paravirt { template: ops.iter().map(slot).collect(), rules }),
            ..Boot::default()
        }
    }

    /// The feature that inlines asks the absence of.
    pub(super) const XENPV: u16 = feature::XENPV;
    /// The feature that `static_cpu_has()` asks for.
    pub(super) const ASKED: u16 = feature::ASKED;
    /// `X86_FEATURE_ALWAYS`.
    pub(super) const ALWAYS: u16 = feature::ALWAYS;
}
