//! `apply_alternatives()`: code replaced by other code where the CPU has a feature, or has it not.
//!
//! | | 2.6.24, 2.6.33 | 5.10.0 | 5.10 stable, 6.1 | 6.12 | 7.2 |
//! |---|---|---|---|---|---|
//! | moved | nothing | the one call or jump | the one call or jump | everything | everything |
//! | rest of the site | nops | nops | `90`, then optimised | `90`, then optimised | `90`, then optimised |
//! | not taken | nothing | padding becomes nops | site optimised | site optimised | site optimised |
//! | several rows at one site | one after the other | | | the longest length for all | one write, the last taken |
//! | direct calls | – | – | – | yes | yes |
//!
//! Sources: arch/x86/kernel/alternative.c of each. What changed it: jumps are moved, padding (4.1: 48c7a2509f9e,
//! 4332195c5615); nops are optimised (5.13: 23c1ad538f4f); everything is moved (6.5: 270a69c4485d); direct calls (6.8:
//! da0fe6e68e10); rows at one site have one length (6.11: d2a793dae219); one write (7.0: a4233c21e773).
//!
//! Of a row that is not taken 4.1 to 4.14 look at the site's first byte alone, not at as many as it has padding
//! (612e8e9350fd, 4.15, and 4.1, 4.4, 4.9 and 4.14 stable). No kernel has a site where that makes a difference, as far as is
//! known: none of the 12,098 rows with padding in 20 kernels of 4.1 to 4.20.
//!
//! The site that a row is tested and written on is the text as the rows and passes before it left it; so is its
//! replacement, which other tables patch too.

use super::decision::{Decision, Kind, Reason};
use super::optimise::{self, optimise};
use super::passes::Pass;
use super::relocate::{self, Move};

use super::rules::{Alternatives, Fill, Relocate, SameSite, Untaken};
use super::run::{Run, row_error};
use crate::error::{Error, Result};
use crate::image::Bits;
use crate::insn::{self, CALL, CALL_LEN, MAX_PATCH_LEN, NOP, NopTable};
use crate::sites::Alternative;

/// An era's rules on one machine.
#[derive(Debug, Clone, Copy)]
pub struct Patcher {
    /// The era's rules.
    pub rules: Alternatives,
    /// Pointer size.
    pub bits: Bits,
    /// The CPU's nops.
    pub nops: &'static NopTable,
}

/// So many bytes of a site are shown in an error: more than any instruction has.
const MAX_SHOWN: usize = 16;

/// What the indirect call of a direct-call row would call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Callee {
    /// This function, by a call whose placeholder calls that one.
    Function {
        /// What is called.
        target: u64,
        /// `BUG_func`.
        placeholder: u64,
    },
    /// `nop_func`.
    Nothing,
}

impl Patcher {
    /// A row that is taken: leaves what its site becomes in the buffer, which is as long as the site.
    pub fn taken(&self, row: &Alternative, replacement: &[u8], callee: Option<Callee>, site: &mut [u8]) -> Result<()> {
        let used = match callee {
            None => replacement.len(),
            Some(Callee::Nothing) => 0,
            Some(Callee::Function { .. }) => CALL_LEN,
        };
        fits(replacement.len(), site.len())?;
        let need = replacement.len();
        let head = &mut site[..need];
        head.copy_from_slice(replacement);
        if let (Some(Callee::Function { target, placeholder }), [CALL, a, b, c, d, ..]) = (callee, &mut *site) {
            let by = target.wrapping_sub(placeholder) as i32;
            let moved = i32::from_le_bytes([*a, *b, *c, *d]).wrapping_add(by);
            [*a, *b, *c, *d] = moved.to_le_bytes();
        }
        let whole = Move { from: row.replacement, len: need, to: row.address };
        match self.rules.relocate {
            Relocate::Nothing | Relocate::Every => {}
            Relocate::Call => relocate::call(whole, &mut site[..need]),
            Relocate::First => {
                relocate::call(whole, &mut site[..need]);
                relocate::jump(whole, self.nops, &mut site[..need]);
            }
        }
        match self.rules.fill {
            Fill::Nops => self.nops.fill(&mut site[used..]),
            Fill::Ones => site[used..].fill(NOP),
        }
        match (self.rules.relocate, self.rules.fill) {
            (Relocate::Every, _) => optimise::moved(self.rules.nops, self.bits, self.nops, whole, site)?,
            (_, Fill::Ones) => optimise(self.rules.nops, self.bits, self.nops, site),
            (_, Fill::Nops) => {}
        }
        Ok(())
    }

    /// A row that is not taken: what becomes of the site in the buffer all the same.
    pub fn untaken(&self, row: &Alternative, site: &mut [u8]) -> Result<()> {
        // The first eras look at lengths before they look at the feature.
        let need = if self.rules.untaken == Untaken::Leave { row.replacement_len.into() } else { 0 };
        fits(need, site.len())?;
        match self.rules.untaken {
            Untaken::Leave => {}
            Untaken::Optimise => optimise(self.rules.nops, self.bits, self.nops, site),
            Untaken::Pad | Untaken::PadUnseen => {
                let (pad, len) = (usize::from(row.pad), site.len());
                // The kernel looks at the first bytes and rewrites the last: only a site of nothing but padding is
                // tested where it is written.
                let unseen = self.rules.untaken == Untaken::PadUnseen;
                if pad > 1 && (unseen || site[..pad].iter().all(|&b| b == NOP)) {
                    self.nops.fill(&mut site[len - pad..]);
                }
            }
        }
        Ok(())
    }
}

/// The lengths that stop the kernel; since 4.1 it would write a replacement over what is behind its site instead.
fn fits(need: usize, have: usize) -> Result<()> {
    if have > MAX_PATCH_LEN {
        return Err(Error::bug(format!(
            "BUG: a site of {have} bytes, the insn buffer holds {MAX_PATCH_LEN} (apply_alternatives)"
        )));
    }
    if need > have {
        return Err(Error::bug(format!(
            "BUG: a replacement of {need} bytes for a site of {have} (apply_alternatives)"
        )));
    }
    Ok(())
}

pub(super) fn apply(run: &mut Run<'_>) -> Result<()> {
    let Some(table) = &run.tables.alternatives else { return Ok(()) };
    let patcher = Patcher { rules: run.rules.alternatives, bits: run.memory.bits(), nops: run.boot.nops };
    let rows = &table.rows;
    let mut first = 0;
    while first < rows.len() {
        let site = rows[first].address;
        let count = match patcher.rules.same_site {
            SameSite::Each => 1,
            SameSite::Longest | SameSite::Once => rows[first..].iter().take_while(|row| row.address == site).count(),
        };
        let these = first..first + count;
        first = these.end;
        if run.runs(site) {
            group(run, &patcher, these.start, &rows[these])
                .map_err(|(row, error)| row_error(error, Pass::Alternatives, row as u32, site))?;
        }
    }
    Ok(())
}

/// Whether this machine takes a row, and why.
fn takes(run: &Run<'_>, row: &Alternative) -> Result<(bool, Reason)> {
    let Some(present) = run.boot.has(row.feature) else {
        return Err(Error::bug(format!(
            "BUG: feature {} of {} words (apply_alternatives)",
            row.feature,
            run.boot.features.len()
        )));
    };
    Ok((present != row.inverted, Reason::Feature { number: row.feature, inverted: row.inverted, present }))
}

/// The rows that follow each other at one site.
fn group(
    run: &mut Run<'_>,
    patcher: &Patcher,
    first: usize,
    rows: &[Alternative],
) -> std::result::Result<(), (usize, Error)> {
    if patcher.rules.same_site == SameSite::Once {
        return once(run, patcher, first, rows);
    }
    // The kernel goes pair by pair, from each row on: all come to be as long as the longest.
    let len = rows.iter().map(|row| row.len).max().unwrap_or(0);
    for (at, row) in rows.iter().enumerate() {
        let index = first + at;
        takes(run, row)
            .and_then(|(taken, reason)| write(run, patcher, index, row, len, taken, reason))
            .map_err(|error| (index, error))?;
    }
    Ok(())
}

/// `analyze_patch_site()`, `prep_patch_site()` and `patch_site()` of 7.0.
fn once(
    run: &mut Run<'_>,
    patcher: &Patcher,
    first: usize,
    rows: &[Alternative],
) -> std::result::Result<(), (usize, Error)> {
    let len = rows.iter().map(|row| row.len).max().unwrap_or(0);
    let mut last = None;
    for (at, row) in rows.iter().enumerate() {
        let (taken, _) = takes(run, row).map_err(|error| (first + at, error))?;
        if taken {
            last = Some(at);
        }
    }
    let speaks = last.unwrap_or(rows.len() - 1);
    for (at, row) in rows.iter().enumerate() {
        let index = first + at;
        let (taken, reason) = takes(run, row).map_err(|error| (index, error))?;
        if at == speaks {
            write(run, patcher, index, row, len, taken, reason).map_err(|error| (index, error))?;
        } else {
            let reason = if taken { Reason::LaterRow((first + speaks) as u32) } else { reason };
            run.keep(Pass::Alternatives, index as u32, row.address, reason);
        }
    }
    Ok(())
}

fn write(
    run: &mut Run<'_>,
    patcher: &Patcher,
    index: usize,
    row: &Alternative,
    len: u8,
    taken: bool,
    reason: Reason,
) -> Result<()> {
    let mut buffer = [0; 256];
    let site = &mut buffer[..usize::from(len)];
    let before = run.memory.read(row.address, site.len())?;
    site.copy_from_slice(before);
    let mut decision = Decision { kind: Kind::Optimised, reason, used: 0 };
    if taken {
        let replacement = run.memory.read(row.replacement, row.replacement_len.into())?;
        let callee = if row.direct_call { Some(callee(run, row, len, replacement, site)?) } else { None };
        patcher.taken(row, replacement, callee, site)?;
        decision = decide(run, reason, callee, replacement);
    } else {
        patcher.untaken(row, site)?;
        if site == before {
            run.keep(Pass::Alternatives, index as u32, row.address, reason);
            return Ok(());
        }
    }
    run.memory.poke(row.address, site)?;
    run.plan.push(row.address, Pass::Alternatives, index as u32, site, decision);
    Ok(())
}

fn decide(run: &Run<'_>, reason: Reason, callee: Option<Callee>, replacement: &[u8]) -> Decision {
    let (kind, reason, used) = match callee {
        Some(Callee::Nothing) => (Kind::Nopped, Reason::NopPointer, 0),
        Some(Callee::Function { target, placeholder })
            if target == placeholder && run.landmarks.bug == Some(target) =>
        {
            (Kind::BugCalled, Reason::NullPointer, CALL_LEN)
        }
        Some(Callee::Function { .. }) => (Kind::Called, Reason::Function, CALL_LEN),
        None if replacement.is_empty() => (Kind::Nopped, reason, 0),
        None => (Kind::Inlined, reason, replacement.len()),
    };
    Decision { kind, reason, used: used as u16 }
}

/// `alt_replace_call()`: what the indirect call at the site would call.
fn callee(run: &Run<'_>, row: &Alternative, len: u8, replacement: &[u8], site: &[u8]) -> Result<Callee> {
    if !matches!(replacement, [CALL, _, _, _, _]) {
        return Err(Error::bug("BUG: a direct-call row whose replacement is no call (alt_replace_call)"));
    }
    let Some(slot) = insn::called_pointer(run.memory.bits(), row.address, site) else {
        let (begins, more) = (&site[..site.len().min(MAX_SHOWN)], if site.len() > MAX_SHOWN { " …" } else { "" });
        let shown = begins.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
        return Err(Error::bug(format!(
            "BUG: a direct-call row at a site of {len} bytes that is no indirect call: {shown}{more} (alt_replace_call)"
        )));
    };
    let Some(target) = run.pointer(slot) else {
        return Err(Error::table(format!("the pointer at {slot:#x}, which the site calls, is not known")));
    };
    let Some(placeholder) = run.landmarks.bug else {
        return Err(Error::table("the image does not say where BUG_func is, which direct-call rows call"));
    };
    if run.landmarks.nop == Some(target) {
        return Ok(Callee::Nothing);
    }
    Ok(Callee::Function { target: if target == 0 { placeholder } else { target }, placeholder })
}
