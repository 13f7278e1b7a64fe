//! Probes, traced functions and live patches.

use super::walk::{Trail, Walk};
use super::{Entry, Registrar};
use crate::error::{Error, Result};
use crate::insn::{CALL_LEN, NOP_TABLES};

/// `KPROBE_HASH_BITS`, and how many lists that are.
const KPROBE_BITS: u32 = 6;
const KPROBE_LISTS: u64 = 1 << KPROBE_BITS;
/// What addresses are multiplied with in hashes (include/linux/hash.h): `GOLDEN_RATIO_64`, `GOLDEN_RATIO_32`, and what came
/// before these in 4.7 (ef703f49a6c5).
const GOLDEN_64: [u64; 2] = [0x61c8_8646_80b5_83eb, 0x9e37_ffff_fffc_0001];
const GOLDEN_32: [u32; 2] = [0x61c8_8647, 0x9e37_0001];
/// More than any kernel has functions that can be traced.
const MAX_TRACED: u64 = 1 << 18;
/// `KPROBE_FLAG_GONE` and `KPROBE_FLAG_DISABLED`: nothing is written for these.
const KPROBE_OFF: u32 = 1 | 2;
/// All flags of a probe there are, `KPROBE_FLAG_GONE` to `KPROBE_FLAG_ON_FUNC_ENTRY` (5.18).
const KPROBE_FLAGS: u32 = 0x1f;
/// The lowest `PAGE_OFFSET` of i386.
const LOWEST_32: u64 = 0x4000_0000;
/// `FTRACE_FL_ENABLED`: the site is a call.
const FTRACE_ENABLED: u64 = 1 << 31;
/// `FTRACE_FL_REGS_EN`: of `ftrace_regs_caller`, if not of code of a tracer's own.
const FTRACE_REGISTERS: u64 = 1 << 29;
/// `FTRACE_FL_TRAMP_EN` and `FTRACE_FL_DIRECT_EN` (include/linux/ftrace.h, 3.18 and 5.5): of such code.
const FTRACE_OWN_CODE: u64 = 1 << 27 | 1 << 23;

impl Walk<'_> {
    /// The entries of one list; of probes also those that are in the list of another address.
    pub fn list(&self, owner: Registrar, head: u64, entries: &mut Vec<Entry>, misplaced: &mut Vec<u64>) -> Result<()> {
        self.begin();
        match owner {
            Registrar::Kprobes => self.kprobes(head, entries, misplaced),
            Registrar::Ftrace => self.ftrace(head, entries),
            Registrar::Bpf => self.trampolines(head, entries),
            Registrar::Livepatch => self.livepatches(head, entries),
        }
    }

    /// Probes that are armed. `struct optimized_kprobe` begins with the `struct kprobe` that stands for all at its place
    /// (`init_aggr_kprobe()`), whose handler calls theirs; what the first of them calls is named.
    fn kprobes(&self, table: u64, entries: &mut Vec<Entry>, misplaced: &mut Vec<u64>) -> Result<()> {
        // Where all are disarmed (/sys/kernel/debug/kprobes/enabled) none is in text.
        if let Some(flag) = self.data("kprobes_all_disarmed")?
            && self.number(flag, 1)? != 0
        {
            return Ok(());
        }
        let at = |name: &str| self.offset("kprobe", name);
        let (address, handler) = (at("addr")?, at("pre_handler")?);
        let all = self.hashed_by_list(table, KPROBE_LISTS, at("hlist")?)?;
        let (mut probes, mut strays) = (Vec::new(), Vec::new());
        for &(list, probe) in &all {
            let place = self.pointer(probe.wrapping_add(address))?;
            self.code(place)?;
            // get_kprobe() finds none that is in another list than that of its address: whoever put it there is not called.
            if self.lists_of(place).contains(&list) {
                probes.push(probe);
            } else {
                strays.push(place);
            }
        }
        if self.members.declared() && probes.is_empty() && !all.is_empty() {
            return Err(Error::memory("its probes are not as they are declared: none is in the list of its address"));
        }
        misplaced.extend(strays);
        let flags = self.flags(&probes)?;
        let together = self.symbol("aggr_pre_handler");
        let optimised = at("list").and_then(|list| Ok((list, self.offset("optimized_kprobe", "optinsn.insn")?))).ok();
        for (probe, flags) in probes.into_iter().zip(flags) {
            if flags & KPROBE_OFF != 0 {
                continue;
            }
            let (address, mut called) =
                (self.pointer(probe.wrapping_add(address))?, self.pointer(probe.wrapping_add(handler))?);
            let mut branch = together.is_some().then_some(0);
            if together == Some(called) {
                branch = None;
                if let Some((list, code)) = optimised {
                    branch = Some(self.pointer(probe.wrapping_add(code))?);
                    let first = self.pointer(probe.wrapping_add(list))?.wrapping_sub(list);
                    called =
                        Some(self.pointer(first.wrapping_add(handler))?).filter(|&other| other != 0).unwrap_or(called);
                }
            }
            entries.push(Entry { owner: Registrar::Kprobes, address, handler: called, branch });
        }
        Ok(())
    }

    /// The number of the list that a probe of this address is in, by each of the hashes there have been (`hash_ptr()`).
    fn lists_of(&self, address: u64) -> [u64; 2] {
        match self.word {
            8 => GOLDEN_64.map(|golden| address.wrapping_mul(golden) >> (64 - KPROBE_BITS)),
            _ => GOLDEN_32.map(|golden| u64::from((address as u32).wrapping_mul(golden) >> (32 - KPROBE_BITS))),
        }
    }

    /// The flags of probes. Where they are declared at several offsets: at each that holds nothing but flags, and all such
    /// have to say the same of which probes are armed.
    fn flags(&self, probes: &[u64]) -> Result<Vec<u32>> {
        let mut found: Option<Vec<u32>> = None;
        for offset in self.members.offsets("kprobe", "flags")? {
            let flags = probes.iter().map(|probe| Ok(self.number(probe.wrapping_add(offset), 4)? as u32));
            let flags = flags.collect::<Result<Vec<u32>>>()?;
            if self.members.declared() && flags.iter().any(|flags| flags & !KPROBE_FLAGS != 0) {
                continue;
            }
            let off = |flags: &[u32]| flags.iter().map(|flags| flags & KPROBE_OFF).collect::<Vec<_>>();
            match &found {
                Some(other) if off(other) != off(&flags) => {
                    return Err(Error::memory("which probes are armed is declared at several places, which differ"));
                }
                _ => found = Some(flags),
            }
        }
        found.ok_or_else(|| Error::memory("its probes are not as they are declared: none of their flags can be"))
    }

    /// Where structures are taken as declared, code has to be where one says that it is: in the kernel's half of memory.
    fn code(&self, address: u64) -> Result<()> {
        let kernels = if self.word == 8 { address >> 63 != 0 } else { address >= LOWEST_32 };
        if self.members.declared() && !kernels {
            return Err(Error::memory("an entry of it is not as declared: no code can be there").at_address(address));
        }
        Ok(())
    }

    fn ftrace(&self, start: u64, entries: &mut Vec<Entry>) -> Result<()> {
        let (next, records, index) = (
            self.offset("ftrace_page", "next")?,
            self.offset("ftrace_page", "records")?,
            self.offset("ftrace_page", "index")?,
        );
        let (ip, flags) = (self.offset("dyn_ftrace", "ip")?, self.offset("dyn_ftrace", "flags")?);
        let size = self.members.record()?;
        let callers = ["ftrace_caller", "ftrace_regs_caller"].map(|name| self.symbol(name));
        let (mut page, mut seen, mut trail) = (self.pointer(start)?, 0, Trail::new());
        while page != 0 {
            self.step(&mut trail, page)?;
            let count = self.number(page.wrapping_add(index), 4)?;
            seen += count;
            if seen > MAX_TRACED {
                return Err(Error::memory("it has more records than any kernel").at_address(page));
            }
            let mut bytes = vec![0; count as usize * size];
            let first = self.pointer(page.wrapping_add(records))?;
            if !self.mapped.read(first, &mut bytes)? {
                return Err(Error::memory("its records are not in memory").at_address(first));
            }
            for record in bytes.chunks_exact(size.max(1)) {
                let word = |at: u64| {
                    let found = record.get(at as usize..).and_then(|rest| rest.get(..self.word)).unwrap_or_default();
                    found.iter().rev().fold(0, |word: u64, &byte| word << 8 | u64::from(byte))
                };
                if word(ip) != 0 {
                    self.code(word(ip))?;
                }
                let flags = word(flags);
                if flags & FTRACE_ENABLED != 0 {
                    let own = self.members.declared() || flags & FTRACE_OWN_CODE != 0;
                    let caller = callers[usize::from(flags & FTRACE_REGISTERS != 0)];
                    let branch = if own { None } else { caller };
                    entries.push(Entry { owner: Registrar::Ftrace, address: word(ip), handler: 0, branch });
                }
            }
            page = self.pointer(page.wrapping_add(next))?;
        }
        Ok(())
    }

    /// Functions outside the kernel's image that are traced by their records and begin with a nop all the same; of what is not
    /// in memory nothing is said.
    pub fn idle(&self, entries: &[Entry]) -> Result<Vec<u64>> {
        let (start, end) = self.image.bounds();
        let inside = start.wrapping_add(self.slide)..end.wrapping_add(self.slide);
        let traced = entries.iter().filter(|entry| entry.owner == Registrar::Ftrace);
        let mut idle = Vec::new();
        for entry in traced.filter(|entry| !inside.contains(&entry.address)) {
            let mut head = [0; CALL_LEN];
            let there = self.mapped.read(entry.address, &mut head)?;
            if there && NOP_TABLES.iter().any(|table| table.atomic5 == head) {
                idle.push(entry.address);
            }
        }
        Ok(idle)
    }

    fn livepatches(&self, head: u64, entries: &mut Vec<Entry>) -> Result<()> {
        if self.pointer(head)? == head {
            return Ok(());
        }
        let at = |of: &str, name: &str| self.offset(of, name);
        let (old, new) = (at("klp_func", "old_func")?, at("klp_func", "new_func")?);
        for patch in self.linked(head, at("klp_patch", "list")?)? {
            for object in self.linked(patch.wrapping_add(at("klp_patch", "obj_list")?), at("klp_object", "node")?)? {
                let functions = object.wrapping_add(at("klp_object", "func_list")?);
                for function in self.linked(functions, at("klp_func", "node")?)? {
                    let address = self.pointer(function.wrapping_add(old))?;
                    let handler = self.pointer(function.wrapping_add(new))?;
                    entries.push(Entry { owner: Registrar::Livepatch, address, handler, branch: None });
                }
            }
        }
        Ok(())
    }
}
