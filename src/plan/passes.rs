//! The kernel's passes: one row each, from which tables, sources and names are read, here and in Python.

use super::rules::Stage;

/// One of the kernel's functions that rewrite text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pass {
    /// `apply_paravirt()`.
    Paravirt,
    /// `apply_alternatives()`.
    Alternatives,
    /// `apply_fineibt()`, before functions.
    Cfi,
    /// `apply_fineibt()`, before indirect calls.
    CfiCallers,
    /// `apply_retpolines()`.
    Retpolines,
    /// `apply_returns()`.
    Returns,
    /// `apply_ibt_endbr()`.
    Ibt,
    /// `alternatives_smp_unlock()`.
    SmpLocks,
    /// `callthunks_patch_builtin_calls()`.
    CallSites,
    /// `ftrace_init()`.
    Mcount,
    /// `__jump_label_transform()`.
    JumpLabels,
    /// `__static_call_transform()`, at call sites.
    StaticCalls,
    /// `__static_call_transform()`, at trampolines.
    Trampolines,
    /// `runtime_const_fixup()`.
    RuntimeConst,
    /// What no table names.
    Unlisted,
}

/// What is known of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The pass.
    pub pass: Pass,
    /// The name the command line and JSON use: that of its table.
    pub name: &'static str,
    /// The section or array its rows stand in; `None` where nothing lists its sites.
    pub table: Option<&'static str>,
    /// The kernel's function.
    pub function: &'static str,
    /// The file of that function.
    pub file: &'static str,
    /// The step of a boot in which it runs for the first time.
    pub stage: Stage,
}

const ALTERNATIVE: &str = "arch/x86/kernel/alternative.c";
const STATIC_CALL: &str = "arch/x86/kernel/static_call.c";

const fn row(
    pass: Pass,
    name: &'static str,
    table: &'static str,
    stage: Stage,
    file: &'static str,
    function: &'static str,
) -> Row {
    Row { pass, name, table: Some(table), function, file, stage }
}

/// All passes: those that go by a table in the order of [`crate::sites::rows::TABLES`], then the others.
pub static PASSES: [Row; 15] = [
    row(Pass::Paravirt, "paravirt", ".parainstructions", Stage::Paravirt, ALTERNATIVE, "apply_paravirt()"),
    row(
        Pass::Alternatives,
        "alternatives",
        ".altinstructions",
        Stage::Alternatives,
        ALTERNATIVE,
        "apply_alternatives()",
    ),
    row(Pass::Retpolines, "retpolines", ".retpoline_sites", Stage::Retpolines, ALTERNATIVE, "apply_retpolines()"),
    row(Pass::Returns, "returns", ".return_sites", Stage::Returns, ALTERNATIVE, "apply_returns()"),
    row(Pass::SmpLocks, "smp_locks", ".smp_locks", Stage::SmpLocks, ALTERNATIVE, "alternatives_smp_unlock()"),
    row(
        Pass::StaticCalls,
        "static_calls",
        ".static_call_sites",
        Stage::StaticCalls,
        STATIC_CALL,
        "__static_call_transform()",
    ),
    row(Pass::Trampolines, "trampolines", "__SCT__*", Stage::StaticCalls, STATIC_CALL, "__static_call_transform()"),
    row(
        Pass::JumpLabels,
        "jump_labels",
        "__jump_table",
        Stage::JumpLabels,
        "arch/x86/kernel/jump_label.c",
        "__jump_label_transform()",
    ),
    row(Pass::Ibt, "ibt", ".ibt_endbr_seal", Stage::Ibt, ALTERNATIVE, "apply_seal_endbr()"),
    row(Pass::Cfi, "cfi", ".cfi_sites", Stage::Cfi, ALTERNATIVE, "apply_fineibt()"),
    row(Pass::Mcount, "mcount", "__mcount_loc", Stage::Ftrace, "kernel/trace/ftrace.c", "ftrace_init()"),
    row(
        Pass::CallSites,
        "call_sites",
        ".call_sites",
        Stage::CallThunks,
        "arch/x86/kernel/callthunks.c",
        "callthunks_patch_builtin_calls()",
    ),
    row(
        Pass::RuntimeConst,
        "runtime_const",
        "runtime_*",
        Stage::Constants,
        "arch/x86/include/asm/runtime-const.h",
        "runtime_const_fixup()",
    ),
    Row {
        pass: Pass::CfiCallers,
        name: "cfi_callers",
        table: None,
        function: "apply_fineibt()",
        file: ALTERNATIVE,
        stage: Stage::Cfi,
    },
    Row {
        pass: Pass::Unlisted,
        name: "unlisted",
        table: None,
        function: "xen_start_kernel()",
        file: "arch/x86/xen/enlighten_pv.c",
        stage: Stage::Unlisted,
    },
];

/// All passes by number: the one at `pass as usize` is that pass.
pub const ALL_PASSES: [Pass; PASSES.len()] = {
    let mut all = [Pass::Unlisted; PASSES.len()];
    let mut at = 0;
    while at < PASSES.len() {
        all[PASSES[at].pass as usize] = PASSES[at].pass;
        at += 1;
    }
    all
};

impl Pass {
    /// What is known of it.
    pub fn row(self) -> &'static Row {
        // Every pass has its row: a test says so.
        PASSES.iter().find(|row| row.pass == self).unwrap_or(&PASSES[PASSES.len() - 1])
    }

    /// Where its rows stand, as errors call it.
    pub fn table(self) -> &'static str {
        self.row().table.unwrap_or("no table")
    }

    /// The name the command line and JSON use: that of its table.
    pub fn name(self) -> &'static str {
        self.row().name
    }
}

impl Stage {
    /// The passes that run in this step for the first time.
    pub fn tables(self) -> impl Iterator<Item = Pass> {
        PASSES.iter().filter(move |row| row.stage == self).map(|row| row.pass)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sites::rows::TABLES;

    #[test]
    fn every_pass_has_one_row_and_every_row_a_name_of_its_own() {
        for row in &PASSES {
            assert_eq!(row.pass.row(), row);
            assert_eq!(PASSES.iter().filter(|other| other.name == row.name).count(), 1, "{}", row.name);
        }
        let listed: Vec<_> = PASSES.iter().filter(|row| row.table.is_some()).map(|row| row.name).collect();
        assert_eq!(listed, TABLES);
    }
}
