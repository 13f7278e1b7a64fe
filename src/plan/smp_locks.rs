//! `alternatives_smp_unlock()`: with one CPU, `lock` prefixes become prefixes that do nothing; and back.
//!
//! | | 2.6.24 | 2.6.33 | since 2.6.38 |
//! |---|---|---|---|
//! | unlocked | `90` | `3e` | `3e` |
//! | looks at what is there | no | no | `f0` only, back `3e` only |
//! | range | `_text` to `_etext`, both included | the same | `_etext` not included |
//!
//! Source: arch/x86/kernel/alternative.c of each.

use super::{Kind, Memory, Pass, Reason, Run, boot::row_error};
use crate::error::Result;
use crate::sites::smp_locks::SECTION;

const LOCK: u8 = 0xf0;

/// The rules of an era.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// What a `lock` prefix becomes.
    pub unlocked: u8,
    /// Only a `lock` prefix is unlocked.
    pub looks: bool,
}

impl Rules {
    /// Whether a site is in the text that is patched.
    fn in_range(self, site: u64, text: (u64, u64)) -> bool {
        site >= text.0 && (site < text.1 || !self.looks && site == text.1)
    }

    /// `alternatives_smp_unlock()`, or with `lock` `alternatives_smp_lock()`: what one site becomes; else why nothing.
    pub fn patch(self, site: u64, text: (u64, u64), memory: &Memory, lock: bool) -> std::result::Result<u8, Reason> {
        if !self.in_range(site, text) {
            return Err(Reason::OutOfRange);
        }
        let (from, to) = if lock { (self.unlocked, LOCK) } else { (LOCK, self.unlocked) };
        if self.looks && memory.from(site).first() != Some(&from) {
            return Err(Reason::NotFound);
        }
        Ok(to)
    }
}

pub(super) fn apply(run: &mut Run<'_>) -> Result<()> {
    let tables = run.tables;
    for (row, address) in tables.smp_locks.rows() {
        if !run.boot.uniprocessor {
            run.keep(Pass::SmpLocks, row, address, Reason::Multiprocessor);
            continue;
        }
        match run.rules.smp_locks.patch(address, run.marks.text, &run.memory, false) {
            Ok(byte) => run
                .poke(Pass::SmpLocks, row, address, &[byte], Kind::Unlocked, Reason::Uniprocessor)
                .map_err(|error| row_error(error, SECTION, row, address))?,
            Err(reason) => run.keep(Pass::SmpLocks, row, address, reason),
        }
    }
    Ok(())
}
