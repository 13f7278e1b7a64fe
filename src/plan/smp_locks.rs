//! `alternatives_smp_unlock()`: with one CPU, `lock` prefixes become prefixes that do nothing; and back.
//!
//! | | 2.6.24 | since 2.6.28 | since 2.6.35 |
//! |---|---|---|---|
//! | unlocked | `90` | `3e` | `3e` |
//! | looks at what is there | no | no | `f0` only, back `3e` only |
//! | range | `_text` to `_etext`, both included | the same | `_etext` not included |
//!
//! Source: arch/x86/kernel/alternative.c of each.

use super::decision::{Kind, Reason};
use super::loaded::LoadedCode;
use super::passes::Pass;
use super::rules::SmpLocks;
use super::run::{Run, row_error};
use crate::error::{Error, Result};

const LOCK: u8 = 0xf0;

/// What decides whether the kernel switches to one CPU (2.6.x, `alternative_instructions()`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpus {
    /// `num_possible_cpus()`.
    pub possible: u32,
    /// `num_present_cpus()`.
    pub present: u32,
    /// `num_online_cpus()`.
    pub online: u32,
    /// `maxcpus=`.
    pub allowed: u32,
    /// `CONFIG_HOTPLUG_CPU`: CPUs may come and go.
    pub hotplug: bool,
    /// `noreplace-smp`.
    pub noreplace: bool,
}

impl Cpus {
    /// Decided once and for all: `smp_alt_once`.
    fn once(&self) -> bool {
        !self.hotplug || self.possible < 2
    }
}

impl SmpLocks {
    /// `alternative_instructions()`: whether it unlocks. Fails where the kernel would `BUG()`.
    pub fn at_boot(self, cpus: &Cpus) -> Result<bool> {
        if cpus.once() {
            return Ok(cpus.possible == 1 && !cpus.noreplace);
        }
        if self.remembers && cpus.present > 1 && cpus.allowed > 1 {
            return Ok(false);
        }
        Ok(self.switch(cpus, false, false)?.is_some())
    }

    /// `alternatives_smp_switch()`: whether it locks (`Some(true)`), unlocks, or does nothing. Fails where the kernel would
    /// `BUG()`.
    pub fn switch(self, cpus: &Cpus, unlocked: bool, smp: bool) -> Result<Option<bool>> {
        if cpus.noreplace || cpus.once() {
            return Ok(None);
        }
        if !smp && cpus.online > 1 {
            let reason = format!("BUG: {} CPUs are online (alternatives_smp_switch)", cpus.online);
            return Err(Error::bug(reason).in_section(Pass::SmpLocks.table()));
        }
        Ok((!self.remembers || smp == unlocked).then_some(smp))
    }

    /// Whether a site is in the text that is patched.
    fn in_range(self, site: u64, text: (u64, u64)) -> bool {
        site >= text.0 && (site < text.1 || !self.looks && site == text.1)
    }

    /// `alternatives_smp_unlock()`, or with `lock` `alternatives_smp_lock()`: what one site becomes; else why nothing.
    pub fn patch(
        self,
        site: u64,
        text: (u64, u64),
        memory: &LoadedCode,
        lock: bool,
    ) -> std::result::Result<u8, Reason> {
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
        if !run.runs(address) {
            continue;
        }
        if !run.boot.uniprocessor {
            run.keep(Pass::SmpLocks, row, address, Reason::Multiprocessor);
            continue;
        }
        match run.rules.smp_locks.patch(address, run.landmarks.text, &run.memory, false) {
            Ok(byte) => run
                .poke(Pass::SmpLocks, row, address, &[byte], Kind::Unlocked, Reason::Uniprocessor)
                .map_err(|error| row_error(error, Pass::SmpLocks, row, address))?,
            Err(reason) => run.keep(Pass::SmpLocks, row, address, reason),
        }
    }
    Ok(())
}
