//! What became of a site, and why: one vocabulary for all passes.

use std::fmt;

/// What a site became.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Code in place of the call: a patch function's, or a replacement of `.altinstr_replacement`.
    Inlined,
    /// A direct call.
    Called,
    /// A direct jump.
    Jumped,
    /// Nothing but nops.
    Nopped,
    /// A `mov` of the argument to the result, for an identity function.
    Moved,
    /// `ud2`, or `ud1` for a warning.
    Trapped,
    /// A direct call of the function that stops the kernel.
    BugCalled,
    /// The site as it stood.
    Kept,
    /// The same instructions, with fewer and longer nops.
    Optimised,
    /// A call or jump through a register.
    Indirect,
    /// A call or jump to a thunk.
    Thunked,
    /// `ret`, or a jump to the return thunk.
    Returned,
    /// `xor %eax,%eax`: a call of a function that returns 0.
    Zeroed,
    /// An `endbr` that no longer lets anybody in.
    Sealed,
    /// A `lock` prefix that locks no longer.
    Unlocked,
    /// A `lock` prefix that locks again.
    Locked,
    /// A constant.
    Constant,
    /// Code of the hypervisor, or for it.
    Filled,
}

impl Kind {
    /// The name JSON uses.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Inlined => "inlined",
            Kind::Called => "called",
            Kind::Jumped => "jumped",
            Kind::Nopped => "nopped",
            Kind::Moved => "moved",
            Kind::Trapped => "trapped",
            Kind::BugCalled => "bug-called",
            Kind::Kept => "kept",
            Kind::Optimised => "optimised",
            Kind::Indirect => "indirect",
            Kind::Thunked => "thunked",
            Kind::Returned => "returned",
            Kind::Zeroed => "zeroed",
            Kind::Sealed => "sealed",
            Kind::Unlocked => "unlocked",
            Kind::Locked => "locked",
            Kind::Constant => "constant",
            Kind::Filled => "filled",
        }
    }
}

/// Why it became that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The slot holds a function.
    Function,
    /// The slot holds a function, and the op never returns.
    JumpingFunction,
    /// The slot holds NULL.
    NullPointer,
    /// The slot holds `_paravirt_nop`.
    NopPointer,
    /// The slot holds an identity function of this many bits.
    Identity(u8),
    /// The patch function inlines this type whatever the slot holds.
    ByType,
    /// The patch function inlines this type while the slot holds its own function, and it does.
    ByTypeAndFunction,
    /// The site does not let go of all registers a call clobbers.
    Clobbers {
        /// What the site lets go.
        site: u16,
        /// What the call clobbers.
        call: u16,
    },
    /// The replacement is longer than the site.
    NoRoom {
        /// Length of the replacement in bytes.
        need: u16,
        /// Length of the site in bytes.
        have: u16,
    },
    /// VMI's ROM answered so.
    Rom,
    /// The patch function ignores this type.
    Ignored,
    /// The row asks for a feature.
    Feature {
        /// Its number.
        number: u16,
        /// The row asks for its absence.
        inverted: bool,
        /// This machine has it.
        present: bool,
    },
    /// A later row of the same site is taken.
    LaterRow(u32),
    /// Retpolines are on.
    Retpoline,
    /// Retpolines are off.
    NoRetpoline,
    /// Indirect branches are fenced.
    Lfence,
    /// An indirect branch in the lower half of a cache line, on a CPU where that is unsafe.
    Its,
    /// Calls are counted.
    CallDepth,
    /// Returns go through this machine's thunk.
    ReturnThunk,
    /// Returns need no thunk.
    NoReturnThunk,
    /// Returns need a thunk only in the lower half of a cache line.
    UpperHalf,
    /// What stands there is not what the pass looks for.
    NotFound,
    /// No indirect branch comes here.
    Unneeded,
    /// One CPU.
    Uniprocessor,
    /// More than one CPU.
    Multiprocessor,
    /// Outside of what the pass may write.
    OutOfRange,
    /// Nobody traces yet.
    NotTraced,
    /// HID-BPF attaches a program of its own.
    HidBpf,
    /// A static key.
    Key {
        /// Whether it is on.
        enabled: bool,
        /// Whether the site jumps where it is off.
        branch: bool,
    },
    /// The kernel's choice of nops for this CPU.
    CpuNops,
    /// The static call's target.
    Target,
    /// The static call's target is NULL.
    NullTarget,
    /// The static call's target returns 0.
    ReturnsZero,
    /// The static call's target warns.
    Warns,
    /// The static call's target is short enough to stand in its place.
    Short,
    /// Hashes of the kernel's control flow are new at each boot.
    Rehashed,
    /// The CPU has IBT.
    FineIbt,
    /// Control flow is not checked.
    CfiOff,
    /// Known at boot only.
    AtBoot,
    /// Running under Xen.
    Xen,
    /// As it should be already.
    AsBuilt,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Reason::Function => "the slot holds a function",
            Reason::JumpingFunction => "the slot holds a function that never returns here",
            Reason::NullPointer => "the slot holds NULL",
            Reason::NopPointer => "the slot holds _paravirt_nop",
            Reason::Identity(bits) => return write!(f, "the slot holds _paravirt_ident_{bits}"),
            Reason::ByType => "the patch function inlines this op, whatever its slot holds",
            Reason::ByTypeAndFunction => "the patch function inlines this op while its slot holds the native one",
            Reason::Clobbers { site, call } => {
                return write!(
                    f,
                    "a call clobbers {call:#x}, the site lets go of {site:#x} only: the indirect call stays"
                );
            }
            Reason::NoRoom { need, have } => {
                return write!(f, "{need} bytes do not fit into {have}: the indirect call stays");
            }
            Reason::Rom => "VMI's ROM answered so",
            Reason::Ignored => "the patch function leaves this op alone",
            Reason::Feature { number, inverted, present } => {
                let (word, bit) = (number / 32, number % 32);
                let not = if *inverted { "no " } else { "" };
                let has = if *present { "is there" } else { "is not there" };
                return write!(f, "for {not}feature {word}*32+{bit}, which {has}");
            }
            Reason::LaterRow(row) => return write!(f, "row {row} of the same site has the last word"),
            Reason::Retpoline => "retpolines are on",
            Reason::NoRetpoline => "retpolines are off",
            Reason::Lfence => "indirect branches are fenced",
            Reason::Its => "an indirect branch in the lower half of a cache line is unsafe on this CPU",
            Reason::CallDepth => "calls are counted",
            Reason::ReturnThunk => "returns go through a thunk",
            Reason::NoReturnThunk => "returns need no thunk",
            Reason::UpperHalf => "in the upper half of a cache line a return needs no thunk",
            Reason::NotFound => "what stands there is not what the pass looks for",
            Reason::Unneeded => "no indirect branch comes here",
            Reason::Uniprocessor => "one CPU",
            Reason::Multiprocessor => "more than one CPU",
            Reason::OutOfRange => "outside of what the pass may write",
            Reason::HidBpf => "HID-BPF attaches a program to it (hid_bpf_preload_skel)",
            Reason::NotTraced => "nobody traces yet",
            Reason::Key { enabled, branch } => {
                let state = if *enabled { "on" } else { "off" };
                let when = if *branch { "off" } else { "on" };
                return write!(f, "the static key is {state}, the site jumps where it is {when}");
            }
            Reason::CpuNops => "this CPU's nop",
            Reason::Target => "the static call's target",
            Reason::NullTarget => "the static call has no target",
            Reason::ReturnsZero => "the static call's target returns 0",
            Reason::Warns => "the static call's target warns",
            Reason::Short => "the static call's target is short enough to stand in its place",
            Reason::Rehashed => "hashes are new at each boot",
            Reason::FineIbt => "the CPU has IBT, and functions check their callers",
            Reason::CfiOff => "callers are not checked",
            Reason::AtBoot => "known at boot",
            Reason::Xen => "running under Xen",
            Reason::AsBuilt => "as it should be already",
        };
        f.write_str(text)
    }
}

/// What was decided for one site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// What it became.
    pub kind: Kind,
    /// Why.
    pub reason: Reason,
    /// How many bytes the patch function used; the rest are nops.
    pub used: u16,
}
