//! Where static calls may go: the kernel's own code says, which has them updated.
//!
//! ```c
//! void __static_call_update(struct static_call_key *key, void *tramp, void *func);    /* since 5.10 (115284d89a43) */
//! ```
//!
//! Code that updates a call has its key as a constant, and mostly the function too:
//!
//! ```text
//! mov $__cond_resched,%rdx
//! mov $__SCK__cond_resched,%rdi
//! call __static_call_update
//! ```
//!
//! | the function is | the call may go to |
//! |---|---|
//! | a constant wherever the key is one | the functions whose addresses stand in those functions of the kernel's |
//! | elsewhere taken from somewhere | any whose address the kernel takes, in code or in data |
//!
//! Where BTF has both, the function takes and returns what that does which the call was built with.
//!
//! A call as it was built goes there, or nowhere, or where a call of a function that returns 0 goes. So where text and data
//! were changed alike, to a function that nothing has this call go to, it is named.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use super::heard::{Disagreement, Heard};
use super::pointers::is_code;
use super::taken::value;
use super::votes::Said;
use crate::error::Result;
use crate::image::btf::functions::Prototypes;
use crate::image::kallsyms::Symbols;
use crate::image::{Bits, Image};
use crate::insn::{CALL_LEN, Effect, JMP, Registers};
use crate::memory::Words;
use crate::numbers::i32_at;

/// Tables of functions for others than those that call them.
const LISTS: [(&str, &str); 2] =
    [("__start_mcount_loc", "__stop_mcount_loc"), ("__start_kprobe_blacklist", "__stop_kprobe_blacklist")];
/// What the key of a tracepoint's call begins with.
const OF_TRACEPOINT: &str = "__SCK__tp_func_";
/// How many instructions before a key the function may be put into its register, and how many behind it.
const NEAR: usize = 24;
/// The longest function that is decoded.
const LONGEST: u64 = 1 << 17;

/// Names the calls that go where nothing has them go.
pub(super) fn judge(said: &Said<'_>, words: &Words<'_>, image: &Image, heard: &mut Heard) -> Result<()> {
    let (Some(symbols), Some(_)) = (image.symbols()?, image.relocations()?) else { return Ok(()) };
    let nothing = symbols.address_of("__static_call_return0");
    let named: HashSet<u64> = heard.disagreements.iter().map(|named| named.address).collect();
    // Where kallsyms lists no data a trampoline stands for its key: it jumps there, or returns.
    let first = |key: u64| if is_code(image, key) { jump(image, key) } else { words.built(key) };
    let updated = |&(key, goes): &(u64, u64)| {
        let as_built = goes == 0 || Some(goes) == nothing || first(key) == Some(goes);
        !as_built && !named.contains(&key) && is_code(image, goes)
    };
    let calls: Vec<(u64, u64)> = said.calls().filter(updated).collect();
    if calls.is_empty() {
        return Ok(());
    }
    let code = Code::new(image, symbols, &calls)?;
    let name = |address: u64| symbols.at(address).filter(|&(_, behind)| behind == 0).map(|(name, _)| name);
    let built = |key: u64| first(key).filter(|&built| built != 0 && Some(built) != nothing).and_then(name);
    let names: HashSet<&str> = calls.iter().flat_map(|&(key, goes)| [built(key), name(goes)]).flatten().collect();
    let btf = image.btf()?;
    let types = btf.as_ref().map(|btf| Prototypes::of(btf, &names));
    // static_call_update() takes a function of the type of that which the call was built with, and no other; but
    // tracepoint_update_call() has a call of an iterator go to what returns nothing.
    let probes = |key: u64| name(key).is_some_and(|name| name.starts_with(OF_TRACEPOINT));
    let typed = |key: u64, goes: u64| {
        let types = types.as_ref().filter(|_| !probes(key));
        types.zip(built(key).zip(name(goes))).is_none_or(|(types, (one, other))| types.agree(one, other))
    };
    let legal = |key: u64, goes: u64| typed(key, goes) && code.allows(key, goes);
    let mut strange: Vec<(u64, u64)> = calls.iter().copied().filter(|&(key, goes)| !legal(key, goes)).collect();
    strange.sort_unstable();
    heard.counts.push(("updated_call", calls.len() as u64));
    heard.disagreements.extend(strange.into_iter().map(|(key, goes)| Disagreement {
        what: "updated_call",
        address: key,
        which: key,
        expected: first(key).unwrap_or(0),
        found: goes,
    }));
    Ok(())
}

/// Where a trampoline jumps as built; nothing, where it returns.
fn jump(image: &Image, trampoline: u64) -> Option<u64> {
    let code = image.read(trampoline, CALL_LEN)?;
    let distance = i32_at(code, 1).filter(|_| code[0] == JMP)?;
    let behind = trampoline.wrapping_add(CALL_LEN as u64);
    Some(behind.wrapping_add(i64::from(distance) as u64) & image.bits().max_address())
}

/// What the code of an image has as constants.
struct Code<'a> {
    image: &'a Image,
    /// Where symbols are, in order.
    places: Vec<u64>,
    /// By key: the fields of code that hold its address.
    keys: HashMap<u64, Vec<u64>>,
    /// By function that a call goes to: whether the image has its address anywhere.
    taken: HashMap<u64, bool>,
    registers: RefCell<Registers>,
}

impl<'a> Code<'a> {
    fn new(image: &'a Image, symbols: &Symbols, calls: &[(u64, u64)]) -> Result<Code<'a>> {
        let places = symbols.addresses().collect();
        let keys = calls.iter().map(|&(key, _)| (key, Vec::new())).collect();
        let taken = calls.iter().map(|&(_, goes)| (goes, false)).collect();
        let mut code = Code { image, places, keys, taken, registers: RefCell::new(Registers::new()) };
        let bounds = LISTS.map(|(start, end)| symbols.address_of(start).zip(symbols.address_of(end)));
        let listed = |address: u64| bounds.iter().flatten().any(|&(start, end)| (start..end).contains(&address));
        for section in image.sections().iter().filter(|section| section.bits_present) {
            if section.name == "__mcount_loc" {
                continue;
            }
            for field in image.relocations()?.map_or(&[][..], |all| all.touching(section.address, section.end())) {
                let Some(address) = value(image, field) else { continue };
                if section.executable
                    && let Some(fields) = code.keys.get_mut(&address)
                {
                    fields.push(field.address);
                }
                if let Some(taken) = code.taken.get_mut(&address) {
                    *taken |= !listed(field.address);
                }
            }
        }
        Ok(code)
    }

    /// Whether the kernel may have a call go there.
    fn allows(&self, key: u64, goes: u64) -> bool {
        let fields = self.keys.get(&key).map_or(&[][..], Vec::as_slice);
        let mut all = !fields.is_empty();
        for &field in fields {
            let function = self.function(field);
            if function.iter().any(|(_, effect)| effect.constant.is_some_and(|(_, value)| value == goes)) {
                return true;
            }
            all &= constant_with(&function, field, key, self.image.bits());
        }
        !all && self.taken.get(&goes).is_some_and(|&taken| taken)
    }

    /// The instructions around an address: from one symbol to the next.
    fn function(&self, address: u64) -> Vec<(u64, Effect)> {
        let after = self.places.partition_point(|&place| place <= address);
        let Some(start) = after.checked_sub(1).map(|at| self.places[at]) else { return Vec::new() };
        let end = self.places.get(after).copied().unwrap_or(start).min(start.saturating_add(LONGEST));
        let len = usize::try_from(end.saturating_sub(start)).unwrap_or(0);
        let (mut at, mut found) = (0, Vec::new());
        let Some(code) = self.image.read(start, len) else { return found };
        let mut registers = self.registers.borrow_mut();
        while let Some(effect) = registers.effect(self.image.bits(), start + at as u64, &code[at..]) {
            found.push((start + at as u64, effect));
            at += effect.len;
        }
        found
    }
}

/// Whether the instruction with this field puts a key into a register, and a constant goes with it: none but constants are
/// put into the register of the function near it.
fn constant_with(function: &[(u64, Effect)], field: u64, key: u64, bits: Bits) -> bool {
    // The third argument.
    let register = if bits == Bits::B64 { 2 } else { 1 };
    let at = function.partition_point(|&(address, _)| address <= field);
    let Some(at) = at.checked_sub(1).filter(|&at| function[at].1.constant.is_some_and(|(_, value)| value == key))
    else {
        return false;
    };
    let before = &function[at.saturating_sub(NEAR)..at];
    let behind = &function[at..function.len().min(at + NEAR)];
    let Some(call) = behind.iter().position(|(_, effect)| effect.leaves) else { return false };
    let mut constant = false;
    for (_, effect) in before.iter().chain(&behind[..call]) {
        if effect.leaves {
            // What was called leaves nothing in it.
            constant = false;
        } else if effect.written & 1 << register != 0 {
            let here = effect.constant.is_some_and(|(of, _)| of == register);
            if !here {
                return false;
            }
            constant = true;
        }
    }
    constant
}
