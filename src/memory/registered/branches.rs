//! Where text goes that was changed for somebody: code that the kernel made for tracers, BPF programs and dispatchers.

use super::walk::{Trail, Walk};
use super::{Dispatcher, Entry, Registrar, Tracer};
use crate::error::{Error, Result};

/// `TRAMPOLINE_TABLE_SIZE`.
const TRAMPOLINE_LISTS: u64 = 1024;
/// `FTRACE_HASH_MAX_BITS`, and more than any kernel has.
const MAX_HASH_BITS: u64 = 16;
/// How many words of a `struct bpf_trampoline` are looked at.
const TRAMPOLINE_WORDS: u64 = 40;
/// What the names of dispatchers begin with.
const DISPATCHER: &str = "bpf_dispatcher_";
/// What traces for others than the tracers: its function, and for whom.
const FOR_OTHERS: [(&str, Registrar); 3] = [
    ("kprobe_ftrace_handler", Registrar::Kprobes),
    ("klp_ftrace_handler", Registrar::Livepatch),
    ("call_direct_funcs", Registrar::Bpf),
];

impl Walk<'_> {
    pub(super) fn trampolines(&self, table: u64, entries: &mut Vec<Entry>) -> Result<()> {
        if self.members.declared() {
            // `struct hlist_node` is its first member.
            let trampolines = self.hashed(table, TRAMPOLINE_LISTS, 0)?;
            let Some(address) = self.function_of_all(&trampolines)? else { return Ok(()) };
            for trampoline in trampolines {
                let address = self.pointer(trampoline.wrapping_add(address))?;
                entries.push(Entry { owner: Registrar::Bpf, address, handler: 0, branch: None });
            }
            return Ok(());
        }
        let at = |path: &str| self.offset("bpf_trampoline", path);
        let (node, address) = (at("hlist").or_else(|_| at("hlist_key"))?, at("func.addr")?);
        // A `struct bpf_tramp_image` since 5.12 (e21aa341785c, and stable releases before).
        let image = at("cur_image").and_then(|image| Ok((image, self.offset("bpf_tramp_image", "image")?))).ok();
        for trampoline in self.hashed(table, TRAMPOLINE_LISTS, node)? {
            let address = self.pointer(trampoline.wrapping_add(address))?;
            let branch = image.map(|(image, code)| match self.pointer(trampoline.wrapping_add(image))? {
                0 => Ok(0),
                image => self.pointer(image.wrapping_add(code)),
            });
            entries.push(Entry { owner: Registrar::Bpf, address, handler: 0, branch: branch.transpose()? });
        }
        Ok(())
    }

    /// Where trampolines have `func.addr`, if nothing describes them: at the one place where each has code of the kernel's.
    /// None where there is no trampoline.
    fn function_of_all(&self, trampolines: &[u64]) -> Result<Option<u64>> {
        let word = self.word as u64;
        let mut places: Vec<u64> = (2..TRAMPOLINE_WORDS).map(|at| at * word).collect();
        for &trampoline in trampolines {
            let mut held = Vec::new();
            for &place in &places {
                let there = self.mapped.fill(trampoline.wrapping_add(place), &mut [0; 8][..self.word])?.is_empty();
                if there && self.text.contains(&self.pointer(trampoline.wrapping_add(place))?) {
                    held.push(place);
                }
            }
            places = held;
        }
        match places[..] {
            _ if trampolines.is_empty() => Ok(None),
            [place] => Ok(Some(place)),
            _ => Err(Error::memory(format!(
                "the image has no BTF, and of its {} trampolines {} names a function",
                trampolines.len(),
                if places.is_empty() { "no member" } else { "more than one member" }
            ))),
        }
    }

    /// `ftrace_ops_list`: who traces, where through a trampoline of its own (`arch_ftrace_update_trampoline()`). Who stops is
    /// taken off that list before text is written back, and is in `removed_ops` until that is done (`ftrace_shutdown()`).
    pub(super) fn tracers(&self) -> Result<Vec<Tracer>> {
        let named =
            |name: &str| self.symbol(name).ok_or_else(|| Error::memory(format!("the image does not name {name}")));
        let (list, end) = (named("ftrace_ops_list")?, named("ftrace_list_end")?);
        let mut ops = self.pointer(list)?;
        let (mut tracers, mut trail) = (Vec::new(), Trail::new());
        self.begin();
        let removed = self.symbol("removed_ops").map(|at| self.pointer(at)).transpose()?.unwrap_or(0);
        if ops == end && removed == 0 {
            return Ok(tracers);
        }
        let at = |name: &str| self.offset("ftrace_ops", name);
        let (next, function, trampoline, hash) = (at("next")?, at("func")?, at("trampoline")?, at("func_hash")?);
        let others: Vec<(u64, Registrar)> =
            FOR_OTHERS.iter().filter_map(|&(name, owner)| Some((self.symbol(name)?, owner))).collect();
        let one = |ops: u64| {
            let function = self.pointer(ops.wrapping_add(function))?;
            let trampoline = self.pointer(ops.wrapping_add(trampoline))?;
            let owner = others.iter().find(|&&(other, _)| other == function);
            let owner = owner.map_or(Registrar::Ftrace, |&(_, owner)| owner);
            let places = self.filter(self.pointer(ops.wrapping_add(hash))?)?;
            Ok::<_, Error>(Tracer { trampoline, function, owner, places })
        };
        while ops != 0 && ops != end {
            self.step(&mut trail, ops)?;
            tracers.push(one(ops)?);
            ops = self.pointer(ops.wrapping_add(next))?;
        }
        if removed != 0 {
            tracers.push(one(removed)?);
        }
        Ok(tracers)
    }

    /// The functions of a `struct ftrace_ops_hash` that are traced: an empty one has all (`ftrace_ops_test()`).
    fn filter(&self, hash: u64) -> Result<Option<Vec<u64>>> {
        let filter = self.pointer(hash.wrapping_add(self.offset("ftrace_ops_hash", "filter_hash")?))?;
        let at = |name: &str| self.offset("ftrace_hash", name);
        if filter == 0 || self.pointer(filter.wrapping_add(at("count")?))? == 0 {
            return Ok(None);
        }
        let bits = self.pointer(filter.wrapping_add(at("size_bits")?))?;
        if bits > MAX_HASH_BITS {
            return Err(Error::memory(format!("a filter has 2^{bits} lists")).at_address(filter));
        }
        let buckets = self.pointer(filter.wrapping_add(at("buckets")?))?;
        let at = |name: &str| self.offset("ftrace_func_entry", name);
        let (node, ip) = (at("hlist")?, at("ip")?);
        let entries = self.hashed(buckets, 1 << bits, node)?;
        let places = entries.into_iter().map(|entry| self.pointer(entry.wrapping_add(ip)));
        Ok(Some(places.collect::<Result<_>>()?))
    }

    /// `bpf_dispatcher_change_prog()`: half a page is in use while there are programs, and the other half is written.
    pub(super) fn dispatchers(&self) -> Result<Vec<Dispatcher>> {
        let mut dispatchers = Vec::new();
        for (_, name) in self.symbols.into_iter().flat_map(|symbols| symbols.starting_with(DISPATCHER)) {
            let of = name.strip_prefix(DISPATCHER).and_then(|rest| rest.strip_suffix("_func"));
            let Some((of, head)) = of.and_then(|of| Some((of, self.symbol(&format!("bpf_dispatcher_{of}"))?))) else {
                continue;
            };
            let at = |name: &str| Ok::<u64, Error>(head.wrapping_add(self.offset("bpf_dispatcher", name)?));
            if self.number(at("num_progs")?, 4)? == 0 {
                continue;
            }
            let target = self.pointer(at("image")?)?.wrapping_add(self.number(at("image_off")?, 4)?);
            // Its static call since 6.2 (c86df29d11df, and stable releases before); a jump at its head until then.
            let call = format!("__SCT__bpf_dispatcher_{of}_call");
            let functions = [self.symbol(name), self.symbol(&call)];
            dispatchers.extend(functions.into_iter().flatten().map(|function| Dispatcher { function, target }));
        }
        Ok(dispatchers)
    }
}
