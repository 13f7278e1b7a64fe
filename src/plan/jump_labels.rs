//! Jump labels: a nop or a jump, by the state of a static key.
//!
//! As built they fit the keys' first state. `jump_label_init()` rewrites the nops up to 5.12, where this kernel has others
//! (a89dfde3dc3c: one table of nops for all); then each change of a key rewrites its sites. A site has 5 bytes, since
//! 5.14 2 where a short jump reaches (e7bf1ba97afd). Sources: kernel/jump_label.c, arch/x86/kernel/jump_label.c.

use super::decision::{Kind, Reason};
use super::machine::Known;
use super::passes::Pass;
use super::run::{Run, row_error};
use crate::error::Result;
use crate::insn::{self, JMP_SHORT};
use crate::sites::JumpLabel;

/// The state of a key: as the machine says, else as the image has it.
pub(super) fn state(run: &Run<'_>, key: u64) -> Known<bool> {
    run.boot.keys.get(&key).copied().unwrap_or_else(|| Known { value: first_state(run, key), certain: false })
}

/// `key->enabled` as built; a key in `.bss` is off.
fn first_state(run: &Run<'_>, key: u64) -> bool {
    (run.data)(key, 4).is_some_and(|count| count.iter().any(|&b| b != 0))
}

/// The jump of a site, and its nop; the length is the site's.
pub(super) fn forms(run: &Run<'_>, label: &JumpLabel) -> ([u8; 5], [u8; 5]) {
    if label.len == 2 {
        let distance = label.target.wrapping_sub(label.address.wrapping_add(2)) as u8;
        let mut nop = [0; 5];
        run.boot.nops.fill(&mut nop[..2]);
        return ([JMP_SHORT, distance, 0, 0, 0], nop);
    }
    (insn::jmp(label.address, label.target), run.rules.nop5(run.memory.bits(), run.boot.nops))
}

/// `jump_label_init()`: the nops of keys in their first state.
pub(super) fn initialise(run: &mut Run<'_>) -> Result<()> {
    if run.rules.jump_label_nops {
        let tables = run.tables;
        for (row, label) in (0..).zip(&tables.jump_labels) {
            if !run.runs(label.address) {
                continue;
            }
            let enabled = first_state(run, label.key);
            let (_, nop) = forms(run, label);
            if enabled == label.branch {
                write(run, row, label, &nop[..label.len.into()], Kind::Nopped, Reason::CpuNops)?;
            }
        }
    }
    Ok(())
}

/// The sites as the keys are now.
pub(super) fn update(run: &mut Run<'_>) -> Result<()> {
    let tables = run.tables;
    for (row, label) in (0..).zip(&tables.jump_labels) {
        if !run.runs(label.address) {
            continue;
        }
        let enabled = state(run, label.key).value;
        let (jump, nop) = forms(run, label);
        let jumps = enabled != label.branch;
        let (bytes, kind) = if jumps { (jump, Kind::Jumped) } else { (nop, Kind::Nopped) };
        let reason = Reason::Key { enabled, branch: label.branch };
        write(run, row, label, &bytes[..label.len.into()], kind, reason)?;
    }
    Ok(())
}

fn write(run: &mut Run<'_>, row: u32, label: &JumpLabel, bytes: &[u8], kind: Kind, reason: Reason) -> Result<()> {
    let placed = |error| row_error(error, Pass::JumpLabels, row, label.address);
    if run.memory.read(label.address, bytes.len()).map_err(placed)? == bytes {
        run.keep(Pass::JumpLabels, row, label.address, reason);
        return Ok(());
    }
    run.poke(Pass::JumpLabels, row, label.address, bytes, kind, reason).map_err(placed)
}
