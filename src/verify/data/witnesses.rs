//! Keys and static calls of which other data of the kernel tell: so one that was changed together with its text is found.
//!
//! | what | is told by |
//! |---|---|
//! | the key of a `pr_debug()` | `_ddebug.flags`: on while it prints (`ddebug_change()` of lib/dynamic_debug.c) |
//! | the key and the call of a security hook | `lsm_static_call.hl`: on while there is one, which it calls (`lsm_static_call_init()` of security/security.c, since 6.12) |
//! | `sched_feat_keys` | the bits of `sysctl_sched_features` (`sched_feat_set()` of kernel/sched/debug.c) |
//! | the calls `x86_pmu_*` | the members of `x86_pmu` (`x86_pmu_static_call_update()` of arch/x86/events/core.c) |
//! | keys of what is attached | lists of it (`attached`) |
//! | some 80 other keys | the variable that is written with each (`variables`, `told`) |
//! | the calls `apic_call_*` | those of what `apic` points to (`update_static_calls()` of arch/x86/kernel/apic/init.c, since 6.6) |
//!
//! Where members are, BTF says; without it none of them is heard.

use std::collections::{HashMap, HashSet};

use super::heard::{Disagreement, Heard};
use super::votes::Said;
use crate::error::Result;
use crate::image::Image;
use crate::image::btf::TypeId;
use crate::image::btf::functions::Prototypes;
use crate::image::kallsyms::Symbols;
use crate::memory::{Location, Mapped, Members, Memory, Words};

/// `_DPRINTK_FLAGS_PRINT`.
const PRINTS: i32 = 1;
/// More hooks and functions than any kernel has.
const MAX_ROWS: u64 = 1 << 16;
/// Prefix of calls, the structure with a member for each, the symbol, and whether that is a pointer to it.
const MIRRORED: [(&str, &str, &str, bool); 2] =
    [("__SCK__x86_pmu_", "x86_pmu", "x86_pmu", false), ("__SCK__apic_call_", "apic", "apic", true)];

const FEATURES: &str = "sched_feat_keys";
/// What the members are named that `fixup_ht_bug()` clears (arch/x86/events/intel/core.c).
const CLEARED: &str = "_scheduling";

pub(super) struct Hearing<'a> {
    pub said: &'a Said<'a>,
    pub words: &'a Words<'a>,
    pub symbols: &'a Symbols,
    members: Members<'a>,
    /// What was allocated, where anything maps it.
    pub mapped: Option<Mapped<'a>>,
    /// Where the boot CPU's features are, and how many words.
    pub capabilities: std::result::Result<(u64, u64), String>,
    pub image: &'a Image,
    /// Where the kernel's image begins.
    pub lowest: u64,
    pub heard: &'a mut Heard,
}

/// Holds them to what tells of them.
pub(super) fn judge(
    said: &Said<'_>,
    words: &Words<'_>,
    (memory, found, image): (&Memory, &Location, &Image),
    heard: &mut Heard,
) -> Result<()> {
    let (Some(symbols), Some(btf)) = (image.symbols()?, image.btf()?) else { return Ok(()) };
    let members = Members { btf: Some(btf), word: words.width() };
    // Where nothing maps what was allocated, the lists of the kernel say so themselves.
    let mapped = Mapped::new(memory, found, image).ok();
    let capabilities = said.capabilities(words, image);
    let lowest = image.section(".text").map_or(0, |section| section.address);
    let mut hearing = Hearing { said, words, symbols, members, mapped, capabilities, image, lowest, heard };
    hearing.debugging()?;
    hearing.security()?;
    hearing.scheduling()?;
    hearing.variables()?;
    if let Some(mapped) = hearing.mapped.take() {
        hearing.attached(mapped, found)?;
    }
    MIRRORED.iter().try_for_each(|mirrored| hearing.mirrored(mirrored))
}

impl Hearing<'_> {
    pub(super) fn offset(&self, of: &str, member: &str) -> Option<u64> {
        self.members.offset(of, member).ok()
    }

    pub(super) fn size(&self, of: &str) -> Option<u64> {
        let btf = self.members.btf.as_ref()?;
        Some(btf.size_of(btf.find_struct(of)?).ok()? as u64).filter(|&size| size > 0)
    }

    pub(super) fn count(&mut self, what: &'static str, count: u64) {
        self.heard.counts.extend((count > 0).then_some((what, count)));
    }

    fn say(&mut self, what: &'static str, address: u64, which: u64, expected: u64, found: u64) {
        self.heard.disagreements.push(Disagreement { what, address, which, expected, found });
    }

    /// Whether a key is on as the text says, and as something else does. Gives whether the text says so of it.
    pub(super) fn key(&mut self, what: &'static str, address: u64, key: u64, on: bool) -> bool {
        let text = self.said.key(key);
        self.heard.alone.remove(&key);
        if text.is_some_and(|text| text != on) {
            self.say(what, address, key, u64::from(!on), u64::from(on));
        }
        text.is_some()
    }

    fn debugging(&mut self) -> Result<()> {
        let bounds = ["__start___dyndbg", "__stop___dyndbg"].map(|name| self.symbols.address_of(name));
        let ([Some(start), Some(stop)], Some(size), Some(key)) =
            (bounds, self.size("_ddebug"), self.offset("_ddebug", "key"))
        else {
            return Ok(());
        };
        let Some(flags) = self.flags() else { return Ok(()) };
        let rows = stop.saturating_sub(start) / size;
        if rows > MAX_ROWS || !stop.saturating_sub(start).is_multiple_of(size) {
            return Ok(());
        }
        for row in 0..rows {
            let address = start + row * size;
            if let Some(word) = self.words.int(address.wrapping_add(u64::from(flags / 32) * 4))? {
                self.key("dynamic_debug", address, address.wrapping_add(key), word >> (flags % 32) & PRINTS != 0);
            }
        }
        self.count("dynamic_debug", rows);
        Ok(())
    }

    /// At which bit of a `struct _ddebug` its flags begin.
    fn flags(&self) -> Option<u32> {
        let btf = self.members.btf.as_ref()?;
        let members = btf.members(btf.find_struct("_ddebug")?).ok()?;
        members.iter().find(|member| member.name == "flags").map(|member| member.bit_offset)
    }

    fn security(&mut self) -> Result<()> {
        let row = |name: &str| self.offset("lsm_static_call", name);
        let (Some(table), Some(all), Some(size)) = (
            self.symbols.address_of("static_calls_table"),
            self.size("lsm_static_calls_table"),
            self.size("lsm_static_call"),
        ) else {
            return Ok(());
        };
        let (Some(call), Some(active), Some(hooked), Some(hook)) =
            (row("key"), row("active"), row("hl"), self.offset("security_hook_list", "hook"))
        else {
            return Ok(());
        };
        let rows = (all / size).min(MAX_ROWS);
        for address in (0..rows).map(|row| table.wrapping_add(row * size)) {
            let words = [call, active, hooked].map(|member| self.words.pointer(address.wrapping_add(member)));
            let [Some(call), Some(active), Some(hooked)] = [words[0].clone()?, words[1].clone()?, words[2].clone()?]
            else {
                continue;
            };
            self.key("lsm_hook", address, active, hooked != 0);
            let function = if hooked == 0 { Some(0) } else { self.words.pointer(hooked.wrapping_add(hook))? };
            let Some(goes) = self.said.call(call) else { continue };
            if let Some(function) = function.filter(|&function| function != goes) {
                self.say("lsm_call", call, call, goes, function);
            }
        }
        self.count("lsm_hook", rows);
        Ok(())
    }

    fn scheduling(&mut self) -> Result<()> {
        let named = |name: &str| self.symbols.address_of(name);
        let (Some(keys), Some(features), Some(size)) =
            (named(FEATURES), named("sysctl_sched_features"), self.size("static_key"))
        else {
            return Ok(());
        };
        let Some(word) = self.words.int(features)? else { return Ok(()) };
        let key = |number: u64| keys.wrapping_add(number * size);
        let there = |&number: &u64| self.symbols.at(key(number)).is_some_and(|(name, _)| name == FEATURES);
        let mut count = 0;
        // What aligns the next variable is no key, and a feature that no code asks for has no label.
        for number in (0..32).take_while(there) {
            count += u64::from(self.key("sched_feature", features, key(number), word >> number & 1 != 0));
        }
        self.count("sched_feature", count);
        Ok(())
    }

    /// Whether a function may be where a member of that type is, as far as BTF has both.
    fn fits(&self, function: u64, of_type: TypeId) -> bool {
        let name = self.symbols.at(function).filter(|&(_, behind)| behind == 0).map(|(name, _)| name);
        let known = self.members.btf.as_ref().zip(name);
        known.is_none_or(|(btf, name)| {
            let types = Prototypes::of(btf, &HashSet::from([name]));
            btf.pointed(of_type).is_none_or(|prototype| types.fits(name, prototype))
        })
    }

    /// Calls that are updated to the members of a structure, if they are.
    fn mirrored(&mut self, &(prefix, structure, symbol, points): &(&str, &str, &str, bool)) -> Result<()> {
        let Some(mut base) = self.symbols.address_of(symbol) else { return Ok(()) };
        if points {
            match self.words.pointer(base)? {
                Some(to) if to != 0 => base = to,
                _ => return Ok(()),
            }
        }
        let btf = self.members.btf.as_ref();
        let members = btf.and_then(|btf| btf.members(btf.find_struct(structure)?).ok()).unwrap_or_default();
        let members: HashMap<String, (u64, TypeId)> = members
            .iter()
            .map(|member| (member.name.to_owned(), (u64::from(member.bit_offset / 8), member.type_id)))
            .collect();
        let symbols = self.symbols;
        let returns = symbols.address_of("__static_call_return0");
        let mut count = 0;
        for (call, _, name) in symbols.iter() {
            let Some(member) = name.strip_prefix(prefix).and_then(|name| members.get(name)) else {
                continue;
            };
            let &(offset, of_type) = member;
            let (Some(goes), Some(function)) = (self.said.call(call), self.words.pointer(base.wrapping_add(offset))?)
            else {
                continue;
            };
            let built = self.words.built(call).unwrap_or(0);
            count += 1;
            // x86_pmu_static_call_update() has calls of no function go nowhere, or where one of those goes that return 0.
            // fixup_ht_bug() clears three members of x86_pmu later, and leaves their calls.
            let left = points || name.ends_with(CLEARED);
            let nowhere = [0, built, returns.unwrap_or(0)].contains(&goes);
            if goes != function && !nowhere && !(function == 0 && left && self.fits(goes, of_type)) {
                self.say("mirrored_call", call, call, goes, function);
            }
        }
        self.count("mirrored_call", count);
        Ok(())
    }
}
