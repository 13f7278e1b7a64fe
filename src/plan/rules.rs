//! What a kernel's passes do that no table tells: separate small choices, as stable kernels are hybrids.

use crate::sites::Preambles;
use crate::sites::preambles::USUAL;

/// One step of a boot, in an era's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// `xen_start_kernel()`, `xen_parse_elfnote` and Xen itself.
    Unlisted,
    /// `jump_label_init()`.
    JumpLabels,
    /// `static_call_init()` from `setup_arch()`.
    StaticCalls,
    /// `ftrace_init()`.
    Ftrace,
    /// `runtime_const_init()`.
    Constants,
    /// `apply_paravirt()`.
    Paravirt,
    /// `apply_fineibt()`.
    Cfi,
    /// `apply_retpolines()`.
    Retpolines,
    /// `apply_returns()`.
    Returns,
    /// `apply_alternatives()`.
    Alternatives,
    /// `callthunks_patch_builtin_calls()`.
    CallThunks,
    /// `apply_ibt_endbr()`, `apply_seal_endbr()`.
    Ibt,
    /// `alternatives_smp_unlock()`.
    SmpLocks,
    /// `static_call_init()` as an initcall, where `static_call_force_reinit()` asked for it.
    StaticCallsAgain,
    /// Static calls and static keys as the machine set them later.
    Updates,
}

/// The steps of a boot, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    steps: [Stage; MAX_STAGES],
    len: usize,
}

/// More steps than any boot has.
const MAX_STAGES: usize = 24;

impl Order {
    /// These steps; what is beyond `MAX_STAGES` is left out.
    pub const fn of(stages: &[Stage]) -> Order {
        let mut order = Order { steps: [Stage::Unlisted; MAX_STAGES], len: 0 };
        while order.len < stages.len() && order.len < MAX_STAGES {
            order.steps[order.len] = stages[order.len];
            order.len += 1;
        }
        order
    }
}

impl std::ops::Deref for Order {
    type Target = [Stage];

    fn deref(&self) -> &[Stage] {
        &self.steps[..self.len]
    }
}

/// What of a replacement is moved. See [`super::relocate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relocate {
    /// Nothing.
    Nothing,
    /// The one call it is.
    Call,
    /// The one call or jump it is.
    First,
    /// Every instruction.
    Every,
}

/// What the rest of a site is filled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// Nops from the table.
    Nops,
    /// One-byte nops, which are then optimised with the rest.
    Ones,
}

/// What happens to a site whose row is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Untaken {
    /// Nothing.
    Leave,
    /// Its padding becomes nops from the table, where the site begins with as many `90` as it has padding.
    Pad,
    /// Its padding becomes nops from the table, whatever stands there.
    PadUnseen,
    /// It is optimised.
    Optimise,
}

/// What happens where rows follow each other at one site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    /// Each for itself.
    Each,
    /// Each for itself, all over the longest of their lengths (since 6.11, d2a793dae219).
    Longest,
    /// One write over the longest of their lengths, by the last that is taken (since 7.0, a4233c21e773).
    Once,
}

/// The choices of `apply_alternatives()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alternatives {
    /// What of a replacement is moved.
    pub relocate: Relocate,
    /// What the rest of a site is filled with.
    pub fill: Fill,
    /// What happens to a site whose row is not taken.
    pub untaken: Untaken,
    /// What happens where rows follow each other at one site.
    pub same_site: SameSite,
    /// How nops are optimised.
    pub nops: Nops,
}

/// Which nops are made longer, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nops {
    /// Runs of one-byte nops.
    Runs,
    /// Every nop and `nopl`; and a jump to the end of such a run, which stands before it (`__optimize_nops()`, 6.5 to 6.9).
    MergeJumps,
    /// Every nop and `nopl` (since 6.10, da8f9cf7e721).
    Merge,
    /// Everything that does nothing.
    MergeAll,
}

/// The nop of five bytes that calls of the tracer and jump labels become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nop5 {
    /// `nopl`, the first nop that `ftrace_dyn_arch_init()` finds to run, whatever the CPU's others are (up to 2.6.36).
    Nopl,
    /// `nopl` on x86-64, and on i386, where hypervisors broke it, the generic one: `arch_init_ideal_nop5()`
    /// (f49aa448561f, 2.6.37 to 2.6.39).
    Width,
    /// That of the CPU's nops (dc326fca2b64, 3.0).
    Cpu,
}

/// The choices of `apply_retpolines()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retpolines {
    /// A jump is followed by `int3` (since 6.1, 8c03af3e090e).
    pub int3: bool,
    /// A call is stretched with `cs` prefixes, a jump followed by `int3` to its end (since 6.18, 4a1e02b15ac1).
    pub cs: bool,
    /// Distance of the pages of ITS thunks in the area of modules: one with a guard page behind it, or one after the other
    /// out of the large page that `execmem` keeps (6.13 and later).
    pub its_stride: u64,
}

/// What a static call of a function that returns 0 becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zero {
    /// A call, as of any function.
    Call,
    /// `data16 data16 xor %rax,%rax` (5.12, 3f2a8fc4b15d, to 5.16).
    Data16,
    /// `cs cs cs xor %eax,%eax` (since 5.17, 1cd5f059d956, and stable).
    Cs,
}

/// The choices of `__static_call_transform()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StaticCalls {
    /// What a call of `__static_call_return0` becomes.
    pub zero: Zero,
    /// Of a `ret` one byte is written, and what stands behind it stays (up to 5.16; `RET_INSN_SIZE`).
    pub short_ret: bool,
    /// A call of `__WARN_trap` becomes a `ud1` (860238af7a33).
    pub warn: bool,
    /// A call of the native unlock becomes a `movb`.
    pub unlock: bool,
    /// All sites are done again once there is a return thunk (since 6.5, aee9d30b9744); else where calls are counted.
    pub again: bool,
    /// What stands at a site must be a static call, or the kernel stops.
    pub checked: bool,
}

/// The choices of `alternatives_smp_unlock()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SmpLocks {
    /// What a `lock` prefix becomes.
    pub unlocked: u8,
    /// Only a `lock` prefix is unlocked, only what replaces one is locked again (since 2.6.35).
    pub looks: bool,
    /// A switch to the mode in force does nothing, and the kernel does not switch at boot where more CPUs are about to come.
    pub remembers: bool,
}

/// The rules of an era.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// The era's name.
    pub era: &'static str,
    /// The order of the passes.
    pub order: Order,
    /// `apply_alternatives()`.
    pub alternatives: Alternatives,
    /// `apply_retpolines()`.
    pub retpolines: Retpolines,
    /// `__static_call_transform()`.
    pub static_calls: StaticCalls,
    /// `alternatives_smp_unlock()`.
    pub smp_locks: SmpLocks,
    /// What an unneeded `endbr64` becomes (`gen_endbr_poison()`).
    pub endbr_poison: [u8; 4],
    /// `jump_label_init()` rewrites nops that are not this CPU's.
    pub jump_label_nops: bool,
    /// What calls of the tracer and jump labels become.
    pub nop5: Nop5,
    /// Functions that nothing calls indirectly accept no caller (`poison_cfi()`, 9831c6253ace), and with FineIBT the
    /// `endbr` behind a preamble goes (`cfi_rewrite_endbr()`, 04505bbbbb15): both since 6.5.
    pub seals_hashes: bool,
    /// A preamble may begin farther than 16 bytes before its function (24c8147abb39, 7.0, and stable). The image's own code
    /// goes before, where it tells ([`crate::sites::preambles`]).
    pub far_preambles: bool,
    /// kCFI's callers trap at a `udb`, and no `ud2` is left (`cfi_enable_callers()`, 7.3).
    pub kcfi_udb: bool,
    /// `callthunks_patch_builtin_calls()` goes through `.altinstructions` too (up to 6.14; ab9fea59487d).
    pub count_alternatives: bool,
    /// Which instructions of groups 2 to 5 a probe's jump may displace, `can_boost()`: since 6.9 all but those that are
    /// none for every CPU, calls and `push`; before, `jmp` alone.
    pub boosts_groups: bool,
    /// A BPF trampoline that calls the function itself is jumped to from its head (`DYNAMIC_FTRACE_WITH_JMP`); else called.
    pub enters_by_jump: bool,
}

impl Rules {
    /// How far before a function this kernel looks for its preamble (`CFI_OFFSET`).
    pub(crate) fn preamble(&self, preambles: Preambles) -> u64 {
        let far = preambles.sealed.map_or(self.far_preambles, |sealed| sealed == preambles.built);
        if far { preambles.built } else { USUAL }
    }
}
