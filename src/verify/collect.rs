//! How rows become visits: one for each time that a pass comes to a place.

use std::collections::HashMap;

use super::hashes::{CALLER, PARANOID, PREAMBLE, caller_hash, preamble_hash};
use super::site_map::SiteMap;
use super::visit::{Branch, Kind, LONGEST_RETURN, OpSlot, RETURN, STUB, STUBS, Visit};
use crate::error::{Error, Result};
use crate::image::{Bits, Image};
use crate::insn::{self, CALL, JMP, THUNK_SIZE};
use crate::plan::Stage;
use crate::plan::forms::ENDBR64;
use crate::plan::rules::SameSite;
use crate::sites::Alternative;
use crate::sites::alternatives::SECTION as ALTERNATIVES;

/// Numbers things in the order they are met.
struct Index<T> {
    by: HashMap<u64, u16>,
    list: Vec<T>,
}

impl<T> Index<T> {
    fn new() -> Index<T> {
        Index { by: HashMap::new(), list: Vec::new() }
    }

    fn of(&mut self, address: u64, make: impl FnOnce() -> T) -> Result<u16> {
        if let Some(&at) = self.by.get(&address) {
            return Ok(at);
        }
        let at = u16::try_from(self.list.len()).map_err(|_| Error::table("more than 65535 keys or slots"))?;
        self.by.insert(address, at);
        self.list.push(make());
        Ok(at)
    }
}

/// `alt_replace_call()`, arch/x86/kernel/alternative.c (6.8 on): a call of five bytes for one of six, or `BUG()`.
fn direct_call(row: &Alternative) -> Result<()> {
    if row.len < 6 || row.replacement_len != 5 {
        let (of, by) = (row.len, row.replacement_len);
        let reason = format!("a direct call of {by} bytes for a site of {of}, where the kernel takes 5 for 6");
        return Err(Error::table(reason).at_address(row.address));
    }
    Ok(())
}

impl SiteMap<'_> {
    fn add(&mut self, stage: Stage, address: u64, len: u8, kind: Kind) {
        if let Some(stage) = self.stage(stage) {
            self.visits.push(Visit { address, len, stage, kind });
        }
    }

    /// Gathers the visits. What tables name may lie in the kernel that a module is loaded in.
    pub(super) fn collect(&mut self, image: &Image, kernel: Option<&Image>) -> Result<()> {
        let tables = self.tables;
        let word = |address: u64| {
            image.read_word(address).or_else(|| kernel.and_then(|kernel| kernel.read_word(address))).unwrap_or(0)
        };
        let mut slots = Index::new();
        if let Some(table) = &tables.paravirt {
            let base = if self.info.ops.places.is_empty() { table.ops_address(self.bits)? } else { 0 };
            for (row, site) in (0..).zip(&table.sites) {
                let address = match self.info.ops.places.get(usize::from(site.op_type)) {
                    Some(&place) => place,
                    None => base.wrapping_add(self.bits.word() as u64 * u64::from(site.op_type)),
                };
                let made = || OpSlot { address, built: word(address), op: Some(site.op_type) };
                let slot = slots.of(address, made)?;
                self.add(Stage::Paravirt, site.address, site.len, Kind::Paravirt { row, slot });
            }
        }
        if let Some(table) = &tables.alternatives {
            self.row_slots = vec![None; table.rows.len()];
            for (row, alternative) in table.rows.iter().enumerate().filter(|(_, row)| row.direct_call) {
                direct_call(alternative).map_err(|e| e.in_section(ALTERNATIVES).at_row(row))?;
                let site = self.code.from(alternative.address).get(..6).unwrap_or_default();
                if let Some(address) = insn::called_pointer(self.bits, alternative.address, site) {
                    let slot = slots.of(address, || OpSlot { address, built: word(address), op: None })?;
                    self.row_slots[row] = Some(slot);
                }
            }
            let mut first = 0;
            while first < table.rows.len() {
                let here = table.rows[first];
                let count = match self.rules.alternatives.same_site {
                    SameSite::Each => 1,
                    _ => table.rows[first..].iter().take_while(|row| row.address == here.address).count(),
                };
                let len = table.rows[first..first + count].iter().map(|row| row.len).max().unwrap_or(0);
                let kind = Kind::Alternatives { first: first as u32, count: count.min(usize::from(u16::MAX)) as u16 };
                self.add(Stage::Alternatives, here.address, len, kind);
                first += count;
            }
        }
        self.slots = slots.list;
        for (row, address) in tables.retpolines.rows() {
            let branch = self.branch(address);
            self.branches.resize(row as usize, None);
            self.branches.push(branch);
            if let Some(branch) = branch {
                self.add(Stage::Retpolines, address, branch.len, Kind::Retpoline(row));
            }
        }
        for (row, address) in tables.returns.rows() {
            // clang puts a prefix before the jump, to make room for a check.
            let step = insn::step(self.bits, self.code.from(address)).filter(|step| step.opcode[0] == JMP);
            let len = step.map_or(RETURN, |step| step.len.clamp(RETURN, LONGEST_RETURN));
            self.add(Stage::Returns, address, len as u8, Kind::Return(row));
        }
        for (row, address) in tables.ibt.rows() {
            self.add(Stage::Ibt, address, 4, Kind::Endbr(row));
        }
        self.checks();
        for (row, address) in tables.smp_locks.rows() {
            self.add(Stage::SmpLocks, address, 1, Kind::Lock(row));
        }
        for (row, &address) in (0..).zip(&tables.mcount) {
            self.add(Stage::Ftrace, address, 5, Kind::Mcount(row));
        }
        if self.hid_bpf.is_some() {
            for (row, address) in (0..).zip(self.tracer_calls.clone()) {
                self.add(Stage::Updates, address, 5, Kind::TracerCall(row));
            }
        }
        let mut keys = Index::new();
        for (row, label) in (0..).zip(&tables.jump_labels) {
            let count = image.read(label.key, 4).or_else(|| kernel.and_then(|kernel| kernel.read(label.key, 4)));
            let on = || count.is_some_and(|count| count.iter().any(|&b| b != 0));
            let key = keys.of(label.key, || (label.key, on()))?;
            self.add(Stage::Updates, label.address, label.len, Kind::Jump { row, key });
        }
        self.keys = keys.list;
        let mut calls = Index::new();
        for (row, site) in (0..).zip(&tables.static_calls) {
            let key = calls.of(site.key, || (site.key, word(site.key)))?;
            let len = if self.code.from(site.address).first() == Some(&0x0f) { 6 } else { 5 };
            for stage in [Stage::StaticCalls, Stage::StaticCallsAgain, Stage::Updates] {
                self.add(stage, site.address, len, Kind::Call { row, key });
            }
        }
        for (row, trampoline) in (0..).zip(&tables.trampolines) {
            let key = match trampoline.key {
                Some(key) => Some(calls.of(key, || (key, word(key)))?),
                // kallsyms without data: the trampoline is a key of its own, which jumps where it was linked to.
                None => {
                    let linked = match *self.code.from(trampoline.address) {
                        [JMP, a, b, c, d, ..] => self.code.target(trampoline.address, 5, &[a, b, c, d]),
                        _ => 0,
                    };
                    // One that goes nowhere returns.
                    let linked = if Some(linked) == self.landmarks.return_thunk { 0 } else { linked };
                    Some(calls.of(trampoline.address, || (trampoline.address, linked))?)
                }
            };
            self.add(Stage::Updates, trampoline.address, 5, Kind::Trampoline { row, key });
        }
        self.calls = calls.list;
        for (table, constant) in (0..).zip(&tables.constants) {
            for (row, address) in constant.table.rows() {
                self.add(Stage::Constants, address, constant.width, Kind::Constant { row, table });
            }
        }
        if self.bits == Bits::B64
            && let Some((site, _)) = self.landmarks.xen_iret
        {
            self.add(Stage::Unlisted, site, 5, Kind::XenIret);
        }
        if let Some(page) = self.landmarks.hypercall_page {
            for number in 0..STUBS {
                let stub = page.wrapping_add(STUB * u64::from(number));
                self.add(Stage::Unlisted, stub, 32, Kind::XenStub(number));
            }
        }
        Ok(())
    }

    /// The hashes of indirect calls, where the kernel has any.
    fn checks(&mut self) {
        let tables = self.tables;
        if tables.cfi.is_empty() {
            return;
        }
        for (row, address) in tables.cfi.rows() {
            self.add(Stage::Cfi, address, self.preamble as u8, Kind::Preamble(row));
            let function = address.wrapping_add(self.preamble);
            if self.code.from(function).starts_with(&ENDBR64) {
                self.add(Stage::Cfi, function, 4, Kind::CheckedEndbr(row));
            }
        }
        let caller = if self.landmarks.fineibt_paranoid.is_some() { PARANOID } else { CALLER };
        for (row, address) in tables.retpolines.rows() {
            let check = address.wrapping_sub(CALLER as u64);
            if caller_hash(self.code.from(check)).is_some() {
                self.add(Stage::Cfi, check, caller as u8, Kind::CfiCaller(row));
            }
        }
        for (row, address) in tables.ibt.rows() {
            // Where a farther preamble is none, only FineIBT's code would be looked for.
            let far = address.wrapping_sub(self.preamble);
            let looks = !self.checks_endbr() || preamble_hash(self.code.from(far)).is_some();
            let len = if looks { self.preamble } else { PREAMBLE as u64 };
            let preamble = address.wrapping_sub(len);
            if !self.code.from(preamble).is_empty() {
                self.add(Stage::Ibt, preamble, len as u8, Kind::SealedHash(row));
            }
        }
    }

    /// The branch to a thunk at a site; `None` where the kernel would warn and go on.
    fn branch(&self, address: u64) -> Option<Branch> {
        let code = self.code.from(address);
        let step = insn::step(self.bits, code)?;
        let (opcode, conditional) = match step.opcode {
            [opcode @ (CALL | JMP), _] => (opcode, false),
            [0x0f, opcode @ 0x80..=0x8f] => (opcode, true),
            _ => return None,
        };
        let ((at, _), array) = (step.branch()?, self.landmarks.indirect_thunks?);
        let distance = self.code.target(address, step.len, &code[at..step.len]).wrapping_sub(array);
        let register = u8::try_from(distance / THUNK_SIZE).ok().filter(|&r| r < 16 && distance % THUNK_SIZE == 0)?;
        Some(Branch { len: step.len as u8, opcode, conditional, register })
    }
}
