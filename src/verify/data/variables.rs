//! Keys of which a variable of the kernel says the same: the code that turns a key writes it too.
//!
//! | rule | holds |
//! |---|---|
//! | both ways | where the two are written together |
//! | one way | where the key may be on, or off, for other reasons, or for a while |
//!
//! Each row names the function that writes both. While a kernel boots a variable may be ahead of its key: these are heard once it
//! is up (`system_state` is `SYSTEM_FREEING_INITMEM`, since 5.16, `SYSTEM_RUNNING` from 4.13 on, or more).

use super::told::{Place, ROWS};
use super::witnesses::Hearing;
use crate::error::Result;
use crate::memory::Mapped;
use crate::numbers::unsigned;

/// A `system_state` below this is that of a kernel that boots.
const UP: i32 = 2;

/// What names of keys of control groups' subsystems end with.
const ON_DEFAULT: &str = "_cgrp_subsys_on_dfl_key";
const ENABLED: &str = "_cgrp_subsys_enabled_key";

/// The keys of an array of which one thing tells, and more of them than there are.
const EVENTS: &str = "perf_swevent_enabled";
const MOST_EVENTS: u64 = 64;
/// More CPUs than a kernel has.
const MOST_CPUS: u64 = 1 << 13;

/// What keys begin with that several files have, each by the same feature.
const OF_FEATURES: &str = "have_";
/// More of a command line than a kernel keeps, but for what its boot configuration adds.
const MOST_OF_LINE: usize = 1 << 13;

/// The words of a command line: `next_arg()` of lib/cmdline.c, blanks between quotes belong to a word.
fn words_of(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    let blank = move |byte: &u8| {
        quoted ^= *byte == b'"';
        byte.is_ascii_whitespace() && !quoted
    };
    line.split(blank).filter(|word| !word.is_empty())
}

/// A number at a run-time address.
fn mapped_number(mapped: &Mapped<'_>, address: u64, width: usize) -> Result<Option<u64>> {
    let mut bytes = [0; 8];
    Ok(mapped.read(address, &mut bytes[..width.min(8)])?.then(|| u64::from_le_bytes(bytes)))
}

impl Hearing<'_> {
    /// Keys that variables tell of.
    pub(super) fn variables(&mut self) -> Result<()> {
        let Some(state) = self.symbols.address_of("system_state") else { return Ok(()) };
        if self.words.int(state)?.is_none_or(|state| state < UP) {
            self.heard.unheard.push("keys that variables tell of: the kernel is not up, by system_state".to_owned());
            return Ok(());
        }
        let mut count = 0;
        for (name, places, rule) in ROWS {
            let Some(key) = self.symbols.address_of(name) else { continue };
            let mut found = Vec::new();
            for place in *places {
                found.extend(self.number(place)?);
            }
            // What is so in every boot is told by the key's own name.
            let address = found.first().map_or(key, |&(address, _)| address);
            if found.len() == places.len()
                && let Some(on) = rule(&found.iter().map(|&(_, number)| number).collect::<Vec<_>>())
            {
                for key in self.keys_of(name, key) {
                    count += u64::from(self.key("variable", address, key, on));
                }
            }
        }
        count += self.subsystems()?;
        self.count("variable", count);
        Ok(())
    }

    /// The key of that name; of an array of which one thing tells, all; of what several files have by that name, all.
    fn keys_of(&self, name: &str, key: u64) -> Vec<u64> {
        if name.starts_with(OF_FEATURES) {
            return self.symbols.starting_with(name).filter(|&(_, of)| of == name).map(|(key, _)| key).collect();
        }
        let Some(size) = self.size("static_key").filter(|_| name == EVENTS) else { return vec![key] };
        let there = |key: &u64| self.symbols.at(*key).is_some_and(|(of, _)| of == name);
        (0..MOST_EVENTS).map(|number| key + number * size).take_while(there).collect()
    }

    /// Where a number is, and which it is; nothing where this kernel has no such.
    fn number(&mut self, place: &Place) -> Result<Option<(u64, u64)>> {
        let at = |symbol: &str| self.symbols.address_of(symbol);
        let (address, width) = match *place {
            Place::Variable(symbol, width) => (at(symbol), width),
            Place::Member(symbol, of, member, width) => {
                (at(symbol).zip(self.offset(of, member)).map(|(at, offset)| at + offset), width)
            }
            Place::Element(symbol, index, of, member, width) => {
                let offset = self.offset(of, member).zip(self.size(of)).map(|(offset, size)| index * size + offset);
                (at(symbol).zip(offset).map(|(at, offset)| at + offset), width)
            }
            Place::Feature(word, bit) => {
                let Ok((start, words)) = &self.capabilities else { return Ok(None) };
                let address = start + u64::from(word) * 4;
                let there = self.words.int(address)?.filter(|_| u64::from(word) < *words);
                return Ok(there.map(|there| (address, u64::from(there >> bit & 1 != 0))));
            }
            Place::Parameter(name) => {
                let said = self.parameter(name)?;
                return Ok(said.map(|said| (at("saved_command_line").unwrap_or(0), said)));
            }
            Place::Built(symbol) => {
                let built = at(symbol).and_then(|key| Some((key, unsigned(self.image.read(key, 4)?)?)));
                return Ok(built);
            }
            Place::Named(symbol) => return Ok(Some((0, u64::from(at(symbol).is_some())))),
            Place::Call(symbol) => {
                let goes = at(symbol).and_then(|key| Some((key, self.said.call(key)?)));
                return Ok(goes.map(|(key, goes)| (key, u64::from(goes != 0))));
            }
            Place::Points(symbol, other) => {
                let (Some(symbol), Some(other)) = (at(symbol), at(other)) else { return Ok(None) };
                let pointer = self.words.pointer(symbol)?.filter(|_| self.words.stays(symbol));
                return Ok(pointer.map(|pointer| (symbol, u64::from(pointer == other))));
            }
            Place::Head(symbol, of, member) => {
                let Some(head) = at(symbol).zip(self.offset(of, member)).map(|(at, offset)| at + offset) else {
                    return Ok(None);
                };
                let first = self.words.pointer(head)?.filter(|&first| first != 0);
                return Ok(first.map(|first| (head, u64::from(first != head))));
            }
            Place::OnCpus(symbol, of, member, width) => return self.on_cpus(symbol, of, member, width),
        };
        let Some(address) = address.filter(|&address| self.words.stays(address)) else { return Ok(None) };
        let mut bytes = [0; 8];
        let there = self.words.bytes(address, &mut bytes[..width.min(self.words.width())])?;
        Ok(there.then(|| (address, u64::from_le_bytes(bytes))))
    }

    /// What the command line says of a parameter, the last time that it does: no, yes or something else (1 to 3, by
    /// `kstrtobool()`); 0 where it does not have it.
    fn parameter(&self, name: &str) -> Result<Option<u64>> {
        let (Some(mapped), Some(pointer)) = (&self.mapped, self.symbols.address_of("saved_command_line")) else {
            return Ok(None);
        };
        let Some(line) = mapped_number(mapped, self.words.runs(pointer), self.words.width())?.filter(|&at| at != 0)
        else {
            return Ok(None);
        };
        let mut bytes = vec![0; MOST_OF_LINE];
        let unread = mapped.fill(line, &mut bytes)?;
        let there = unread.first().map_or(bytes.len(), |gap| (gap.start.wrapping_sub(line)) as usize);
        let Some(end) = bytes.iter().take(there).position(|&byte| byte == 0) else { return Ok(None) };
        let mut said = 0;
        for word in words_of(&bytes[..end]).take_while(|word| *word != b"--") {
            let (of, value) = match word.iter().position(|&byte| byte == b'=') {
                Some(at) => (&word[..at], &word[at + 1..]),
                None => (word, &b""[..]),
            };
            // Dashes are underscores: parameq() of kernel/params.c.
            let same = |(a, b): (&u8, &u8)| a == b || matches!((a, b), (b'-', b'_'));
            if of.len() == name.len() && of.iter().zip(name.as_bytes()).all(same) {
                said = match value {
                    [b'n' | b'N' | b'f' | b'F' | b'0', ..] | [b'o' | b'O', b'f' | b'F', ..] => 1,
                    [b'y' | b'Y' | b't' | b'T' | b'1', ..] | [b'o' | b'O', b'n' | b'N', ..] => 2,
                    _ => 3,
                };
            }
        }
        Ok(Some(said))
    }

    /// A member of a structure that each CPU has. Up to 6.14 symbols of such data are distances on x86-64, and lie nowhere.
    fn on_cpus(&self, symbol: &str, of: &str, member: &str, width: usize) -> Result<Option<(u64, u64)>> {
        let at = |symbol: &str| self.symbols.address_of(symbol);
        let (Some(mapped), Some(data), Some(offsets), Some(count), Some(offset)) =
            (&self.mapped, at(symbol), at("__per_cpu_offset"), at("nr_cpu_ids"), self.offset(of, member))
        else {
            return Ok(None);
        };
        let base = if data < self.lowest { data } else { self.words.runs(data) };
        let word = self.words.width();
        let (mut all, mut cpus) = (0, 0);
        for cpu in 0..u64::try_from(self.words.int(count)?.unwrap_or(0)).unwrap_or(0).min(MOST_CPUS) {
            let own = mapped_number(mapped, self.words.runs(offsets + cpu * word as u64), word)?;
            let Some(own) = own else { return Ok(None) };
            let Some(number) = mapped_number(mapped, base.wrapping_add(own).wrapping_add(offset), width)? else {
                return Ok(None);
            };
            all |= number;
            cpus += 1;
        }
        Ok((cpus > 0).then_some((offsets, all)))
    }

    /// Keys of subsystems: on the default hierarchy, which `cgroup_subsys.root` points to (rebind_subsystems() of
    /// kernel/cgroup/cgroup.c), and enabled, which then its mask says (cgroup_init()).
    fn subsystems(&mut self) -> Result<u64> {
        let (Some(default), Some(root), Some(id), Some(mask)) = (
            self.symbols.address_of("cgrp_dfl_root"),
            self.offset("cgroup_subsys", "root"),
            self.offset("cgroup_subsys", "id"),
            self.offset("cgroup_root", "subsys_mask"),
        ) else {
            return Ok(0);
        };
        let (symbols, mut count) = (self.symbols, 0);
        for (key, _, name) in symbols.iter() {
            let ending = |ending| name.strip_suffix(ending).filter(|_| name.ends_with(ending));
            let (Some(subsystem), enabled) = (ending(ON_DEFAULT).or(ending(ENABLED)), ending(ENABLED).is_some()) else {
                continue;
            };
            let Some(at) = symbols.address_of(&format!("{subsystem}_cgrp_subsys")) else { continue };
            let Some(hierarchy) = self.words.pointer(at.wrapping_add(root))? else { continue };
            let on = match enabled {
                false => hierarchy == default,
                true if hierarchy != default => continue,
                true => {
                    let numbers = [at.wrapping_add(id), default.wrapping_add(mask)].map(|at| self.words.int(at));
                    let [Some(number), Some(mask)] = [numbers[0].clone()?, numbers[1].clone()?] else { continue };
                    mask.checked_shr(number as u32).is_some_and(|bits| bits & 1 != 0)
                }
            };
            count += u64::from(self.said.key(key).is_some());
            self.key("variable", at, key, on);
        }
        Ok(count)
    }
}
