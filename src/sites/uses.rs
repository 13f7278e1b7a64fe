//! Static keys and static calls, each once: what it is called, what it is built as, and a key's sites.

use std::collections::{HashMap, HashSet};

use super::tables::Tables;
use crate::error::Result;
use crate::image::Image;
use crate::insn::{CALL, JMP};
use crate::numbers::i32_at;

/// Where the address of a static key lies by the image's symbols.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticKey<'a> {
    /// Its address.
    pub address: u64,
    /// Whether it is built on.
    pub on: bool,
    /// The symbol it lies in, and the offset into it.
    pub place: Option<(&'a str, u64)>,
}

/// One static call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallKey<'a> {
    /// Address of its key; of its trampoline, where nothing names that one's key.
    pub address: u64,
    /// As `DEFINE_STATIC_CALL` has it; `None` where the image does not tell.
    pub name: Option<&'a str>,
    /// The function it is built with; 0 for NULL.
    pub built: u64,
}

/// The static keys that jump labels use, in the order of their first.
///
/// Fails where the symbols cannot be read.
pub fn static_keys<'a>(image: &'a Image, tables: &Tables) -> Result<Vec<StaticKey<'a>>> {
    let mut keys: Vec<StaticKey<'_>> = Vec::new();
    let mut known = HashSet::new();
    for label in &tables.jump_labels {
        if known.insert(label.key) {
            // `static_key.enabled` is an int, first in the structure (include/linux/jump_label.h).
            let enabled = image.read(label.key, 4).and_then(|bytes| i32_at(bytes, 0));
            let on = enabled.is_some_and(|enabled| enabled > 0);
            keys.push(StaticKey { address: label.key, on, place: image.place(label.key)? });
        }
    }
    Ok(keys)
}

/// The sites of each static key, in table order.
pub fn sites_of_keys(tables: &Tables) -> HashMap<u64, Vec<u64>> {
    let mut found: HashMap<u64, Vec<u64>> = HashMap::new();
    for label in &tables.jump_labels {
        found.entry(label.key).or_default().push(label.address);
    }
    found
}

/// The static calls that have sites or a trampoline; one whose trampoline's key nothing names, by the trampoline too.
///
/// A site calls the trampoline until the kernel patches it, so that it says which key `__SCT__NAME` belongs to.
///
/// Fails where the symbols cannot be read.
pub fn call_keys<'a>(image: &'a Image, tables: &Tables) -> Result<Vec<CallKey<'a>>> {
    let mut calls: Vec<CallKey<'_>> = Vec::new();
    let mut known = HashMap::new();
    let mut by_trampoline = HashMap::new();
    let mut returns: Option<HashSet<u64>> = None;
    for site in &tables.static_calls {
        if known.contains_key(&site.key) {
            continue;
        }
        let target = branch(image, site.address);
        known.insert(site.key, calls.len());
        let name = called(image, site.key, target)?;
        calls.push(CallKey { address: site.key, name, built: image.read_word(site.key).unwrap_or(0) });
        if let Some(target) = target {
            by_trampoline.insert(target, site.key);
        }
    }
    for trampoline in &tables.trampolines {
        let address = trampoline.address;
        let call = match trampoline.key {
            Some(key) if known.contains_key(&key) => continue,
            Some(key) => {
                let name = called(image, key, Some(address))?;
                CallKey { address: key, name, built: image.read_word(key).unwrap_or(0) }
            }
            None => match by_trampoline.get(&address).and_then(|key| known.get(key)).map(|&number| &calls[number]) {
                Some(own) => CallKey { address, ..own.clone() },
                // A trampoline that goes nowhere is built as a return, which may be a jump to the return thunk.
                None => {
                    let returns = returns.get_or_insert_with(|| tables.returns.sites.iter().copied().collect());
                    let built = if returns.contains(&address) { 0 } else { branch(image, address).unwrap_or(0) };
                    CallKey { address, name: without_prefix(image, address, "__SCT__")?, built }
                }
            },
        };
        known.insert(call.address, calls.len());
        calls.push(call);
    }
    Ok(calls)
}

/// What the call of a key is called, by the key or the trampoline.
fn called(image: &Image, key: u64, trampoline: Option<u64>) -> Result<Option<&str>> {
    match (without_prefix(image, key, "__SCK__")?, trampoline) {
        (None, Some(trampoline)) => without_prefix(image, trampoline, "__SCT__"),
        (name, _) => Ok(name),
    }
}

/// The rest of the symbol at an address, where it begins so.
fn without_prefix<'a>(image: &'a Image, address: u64, prefix: &str) -> Result<Option<&'a str>> {
    let symbol = image.place(address)?.filter(|&(_, offset)| offset == 0);
    Ok(symbol.and_then(|(name, _)| name.strip_prefix(prefix)))
}

/// Where a direct call or jump goes, or a conditional one; `None` for anything else.
fn branch(image: &Image, address: u64) -> Option<u64> {
    let (len, displacement) = match *image.read(address, 6)? {
        [CALL | JMP, a, b, c, d, _] => (5, [a, b, c, d]),
        [0x0f, 0x80..=0x8f, a, b, c, d] => (6, [a, b, c, d]),
        _ => return None,
    };
    let target = address.wrapping_add(len).wrapping_add(i32::from_le_bytes(displacement) as u64);
    Some(target & image.bits().max_address())
}
