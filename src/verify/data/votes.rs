//! Data that say what the text says too: keys, calls, ops, the return thunk, features.

use std::collections::{BTreeSet, HashMap};

use super::capabilities::capabilities;
use super::heard::{Disagreement, Heard, Slots};
use crate::error::Result;
use crate::image::Image;
use crate::memory::Words;
use crate::verify::infer::Unknown;
use crate::verify::state::SOME_FUNCTION;
use crate::verify::{PossibleBackend, Report};

/// Kinds, in the order in which they are counted.
const KINDS: [&str; 6] = ["static_key", "static_call", "pv_ops", "return_thunk", "feature", "alternatives_patched"];

struct Hearing<'a> {
    words: &'a Words<'a>,
    image: &'a Image,
    counts: [u64; KINDS.len()],
    disagreements: Vec<Disagreement>,
    keys: BTreeSet<u64>,
}

pub(super) fn hear(
    said: &Said<'_>,
    backends: &[PossibleBackend],
    slots: &Slots,
    words: &Words<'_>,
    image: &Image,
) -> Result<Heard> {
    let mut hearing =
        Hearing { words, image, counts: [0; KINDS.len()], disagreements: Vec::new(), keys: BTreeSet::new() };
    let (report, mut unheard) = (said.report, Vec::new());
    let capabilities = match said.capabilities(words, image) {
        Ok(found) => Some(found),
        Err(reason) => {
            unheard.push(format!("features: {reason}"));
            None
        }
    };
    let mut voted = Vec::new();
    for vote in &report.votes {
        match vote.about {
            Unknown::Key(key) => hearing.key(key, vote.value != 0)?,
            Unknown::Call(key) => hearing.pointer(1, key, said.call(key).unwrap_or(vote.value))?,
            // Its sites do not say which: what its backend may put there is looked up below.
            Unknown::Slot(_) if vote.value == SOME_FUNCTION => {}
            Unknown::Slot(slot) => {
                voted.push(slot);
                hearing.pointer(2, slot, vote.value)?;
            }
            // Where no return could be read the text says nothing.
            Unknown::Returns if vote.votes > 0 || vote.known => hearing.thunk(vote.value)?,
            Unknown::Feature(number) => {
                if let Some((address, words)) = capabilities
                    && u64::from(number) < words * 32
                {
                    hearing.feature(address, number, vote.value != 0)?;
                }
            }
            _ => {}
        }
    }
    hearing.patched()?;
    let none = PossibleBackend::default();
    let backend = backends.iter().find(|backend| report.backends.first() == Some(&backend.name)).unwrap_or(&none);
    for &slot in slots.addresses.iter().filter(|slot| !voted.contains(slot)) {
        hearing.silent_slot(slot, backend)?;
    }
    let counts = KINDS.into_iter().zip(hearing.counts).filter(|&(_, count)| count > 0).collect();
    let (held, rodata) = (Vec::new(), Err(String::new()));
    let Hearing { disagreements, keys: alone, .. } = hearing;
    Ok(Heard { counts, disagreements, held, unheard, rodata, alone })
}

/// What the text says of keys and static calls.
pub(super) struct Said<'a> {
    report: &'a Report,
    keys: HashMap<u64, bool>,
    calls: HashMap<u64, u64>,
    outside: HashMap<u64, u64>,
}

impl Said<'_> {
    pub(super) fn of(report: &Report) -> Said<'_> {
        let (mut keys, mut calls) = (HashMap::new(), HashMap::new());
        for vote in &report.votes {
            match vote.about {
                Unknown::Key(key) => drop(keys.insert(key, vote.value != 0)),
                Unknown::Call(key) => drop(calls.insert(key, vote.value)),
                _ => {}
            }
        }
        Said { report, keys, calls, outside: outside(report) }
    }

    /// Where the words of the boot CPU's features are, and how many there are; or why that is not known.
    pub(super) fn capabilities(&self, words: &Words<'_>, image: &Image) -> std::result::Result<(u64, u64), String> {
        capabilities(self.report, words, image)
    }

    /// Whether a key is on.
    pub(super) fn key(&self, key: u64) -> Option<bool> {
        self.keys.get(&key).copied()
    }

    /// Every call, by its key, and where it goes, if not outside the kernel: what is inferred of one that does is no more
    /// than what its sites are nearest to.
    pub(super) fn calls(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.calls.iter().filter(|(key, _)| !self.outside.contains_key(key)).map(|(&key, &goes)| (key, goes))
    }

    /// Where a call goes, outside the kernel too; 0 for nowhere.
    pub(super) fn call(&self, key: u64) -> Option<u64> {
        self.calls.get(&key).map(|goes| *self.outside.get(&key).unwrap_or(goes))
    }
}

/// By key: where all sites of a static call go, if that is a function outside the kernel: nothing explains that, yet it is what
/// the text says.
fn outside(report: &Report) -> HashMap<u64, u64> {
    let mut found = HashMap::new();
    for owned in report.unexplained.iter().filter_map(|run| run.owned.as_ref()) {
        if let (Some(call), Some(target)) = (owned.call, owned.target) {
            found.entry(call).or_insert(target);
        }
    }
    found
}

impl Hearing<'_> {
    fn say(&mut self, kind: usize, address: u64, which: u64, expected: u64, found: u64) {
        self.counts[kind] += 1;
        if expected != found {
            self.disagreements.push(Disagreement { what: KINDS[kind], address, which, expected, found });
        }
    }

    /// `static_key.enabled`, an `atomic_t` at its beginning: how many want it on; -1 while static_key_slow_inc() has its
    /// sites written (kernel/jump_label.c), and nothing else below 0.
    fn key(&mut self, key: u64, on: bool) -> Result<()> {
        if self.words.stays(key)
            && let Some(enabled) = self.words.int(key)?.filter(|&enabled| enabled != -1)
        {
            let found = if enabled < 0 { i64::from(enabled) as u64 } else { u64::from(enabled > 0) };
            self.keys.insert(key);
            self.say(0, key, key, u64::from(on), found);
        }
        Ok(())
    }

    /// A pointer to a function: `static_call_key.func` is the key's first member.
    fn pointer(&mut self, kind: usize, address: u64, function: u64) -> Result<()> {
        if self.words.stays(address)
            && let Some(found) = self.words.pointer(address)?
        {
            self.say(kind, address, address, function, found);
        }
        Ok(())
    }

    /// A slot of `pv_ops` that no call goes through, or none that could be read: what the image has, or its backend puts.
    fn silent_slot(&mut self, slot: u64, backend: &PossibleBackend) -> Result<()> {
        let built = self.image.read_word(slot);
        if let (Some(built), Some(found)) = (built, self.words.pointer(slot)?) {
            let likely = backend.slots.get(&slot).filter(|values| values.contains(&found));
            let expected = if likely.is_some() { found } else { built };
            self.say(2, slot, slot, expected, found);
        }
        Ok(())
    }

    /// `x86_return_thunk`: where returns jump; what it was built with, where they return.
    fn thunk(&mut self, thunk: u64) -> Result<()> {
        let symbols = self.image.symbols()?;
        let Some(address) = symbols.and_then(|symbols| symbols.address_of("x86_return_thunk")) else { return Ok(()) };
        let Some(built) = self.image.read_word(address) else { return Ok(()) };
        if let Some(found) = self.words.pointer(address)? {
            self.say(3, address, address, if thunk == 0 { built } else { thunk }, found);
        }
        Ok(())
    }

    /// `alternatives_patched`, which alternative_instructions() sets once it is through (6.1
    /// arch/x86/kernel/alternative.c): the text was found to be patched.
    fn patched(&mut self) -> Result<()> {
        let symbols = self.image.symbols()?;
        let address = symbols.and_then(|symbols| symbols.address_of("alternatives_patched"));
        if let Some(address) = address.filter(|&address| self.words.stays(address))
            && let Some(found) = self.words.int(address)?
        {
            self.say(5, address, address, 1, u64::from(found != 0));
        }
        Ok(())
    }

    /// A bit of `boot_cpu_data.x86_capability`.
    fn feature(&mut self, capabilities: u64, number: u16, there: bool) -> Result<()> {
        let address = capabilities + u64::from(number / 32) * 4;
        if let Some(word) = self.words.int(address)? {
            let found = word >> (number % 32) & 1 != 0;
            self.say(4, address, number.into(), u64::from(there), u64::from(found));
        }
        Ok(())
    }
}
