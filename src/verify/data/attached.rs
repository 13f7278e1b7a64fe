//! Keys that are on while somebody is attached: hooks of netfilter, BPF programs of control groups.
//!
//! ```c
//! struct static_key nf_hooks_needed[NFPROTO_NUMPROTO][NF_MAX_HOOKS];    /* net/netfilter/core.c */
//! struct nf_hook_entries { u16 num_hook_entries; struct nf_hook_entry { hook, priv } hooks[]; };
//! struct static_key_false cgroup_bpf_enabled_key[];    /* kernel/bpf/cgroup.c; one for all up to 5.11 */
//! struct cgroup_bpf { effective[]; progs[]; flags[]; … };
//! ```
//!
//! One way alone: a network namespace that goes, or a control group whose sockets stay, is in no list any more and holds its
//! keys. Whoever turns such a key off has hooks and programs that are attached and never called.

use super::witnesses::Hearing;
use crate::error::Result;
use crate::memory::{Location, Mapped};

/// More links than all these lists have.
const MAX_LINKS: u64 = 1 << 16;
/// `MAX_HOOK_COUNT`, twice.
const MAX_HOOKS: u64 = 2048;
/// Members of `struct netns_nf`, the protocol and how many hooks there are: `NFPROTO_IPV4`, `ARP`, `BRIDGE`, `IPV6`.
const PROTOCOLS: [(&str, u64, u64); 4] =
    [("nf.hooks_ipv4", 2, 5), ("nf.hooks_arp", 3, 3), ("nf.hooks_bridge", 7, 5), ("nf.hooks_ipv6", 10, 5)];
/// `NFPROTO_NUMPROTO` at the least, which is 11 without DECnet (since 6.1, 1202cdd66531), and `NF_MAX_HOOKS`: up to 4.2 and
/// later.
const ARRAYS: [(u64, u64); 2] = [(13, 8), (11, 5)];
/// What stands in a list for a hook that was taken out.
const TAKEN_OUT: &str = "accept_all";
const NETFILTER: &str = "nf_hooks_needed";
const PROGRAMS: &str = "cgroup_bpf_enabled_key";

/// Memory at run-time addresses, and how much of it may still be looked at.
struct Lists<'a> {
    mapped: Mapped<'a>,
    found: &'a Location,
    word: usize,
    left: u64,
}

impl Lists<'_> {
    /// A number at a run-time address; nothing where it is not there, or too much was asked for.
    fn number(&mut self, address: u64, width: usize) -> Result<Option<u64>> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        let mut bytes = [0; 8];
        Ok(self.mapped.read(address, &mut bytes[..width.min(8)])?.then(|| u64::from_le_bytes(bytes)))
    }

    fn pointer(&mut self, address: u64) -> Result<Option<u64>> {
        self.number(address, self.word)
    }

    /// What is linked into a list by a member at this offset.
    fn linked(&mut self, head: u64, offset: u64) -> Result<Vec<u64>> {
        let mut all = Vec::new();
        let mut next = self.pointer(head)?;
        while let Some(link) = next.filter(|&link| link != head && link != 0) {
            all.push(link.wrapping_sub(offset));
            next = self.pointer(link)?;
        }
        Ok(all)
    }

    fn run_time(&self, linked: u64) -> u64 {
        linked.wrapping_add(self.found.slide)
    }
}

impl<'h> Hearing<'h> {
    /// Keys of what is attached.
    pub(super) fn attached(&mut self, mapped: Mapped<'h>, found: &'h Location) -> Result<()> {
        let mut lists = Lists { mapped, found, word: self.words.width(), left: MAX_LINKS };
        self.netfilter(&mut lists)?;
        self.programs(&mut lists)?;
        if lists.left == 0 {
            self.heard.unheard.push("hooks and programs that are attached: more than any kernel has".to_owned());
        }
        Ok(())
    }

    fn netfilter(&mut self, lists: &mut Lists<'_>) -> Result<()> {
        let named = |name: &str| self.symbols.address_of(name);
        let (Some(keys), Some(namespaces), Some(size)) =
            (named(NETFILTER), named("net_namespace_list"), self.size("static_key"))
        else {
            return Ok(());
        };
        let (Some(link), Some(entry), Some(hooks), Some(hook), Some(count)) = (
            self.offset("net", "list"),
            self.size("nf_hook_entry"),
            self.offset("nf_hook_entries", "hooks"),
            self.offset("nf_hook_entry", "hook"),
            self.offset("nf_hook_entries", "num_hook_entries"),
        ) else {
            return Ok(());
        };
        let inside = |&&(protocols, each): &&(u64, u64)| {
            let last = keys.wrapping_add((protocols * each - 1) * size);
            self.symbols.at(last).is_some_and(|(name, _)| name == NETFILTER)
        };
        let Some(&(_, each)) = ARRAYS.iter().find(inside) else { return Ok(()) };
        let taken_out = named(TAKEN_OUT).map(|function| lists.run_time(function));
        let mut needed = std::collections::BTreeSet::new();
        for namespace in lists.linked(lists.run_time(namespaces), link)? {
            for (member, protocol, there) in PROTOCOLS {
                let Some(offset) = self.offset("net", member) else { continue };
                for number in 0..there {
                    let list = lists.pointer(namespace.wrapping_add(offset + number * lists.word as u64))?;
                    let Some(list) = list.filter(|&list| list != 0) else { continue };
                    let rows = lists.number(list.wrapping_add(count), 2)?.unwrap_or(0).min(MAX_HOOKS);
                    for row in 0..rows {
                        let function = lists.pointer(list.wrapping_add(hooks + row * entry + hook))?;
                        if function.is_some_and(|function| function != 0 && Some(function) != taken_out) {
                            needed.insert(protocol * each + number);
                            break;
                        }
                    }
                }
            }
        }
        for &number in &needed {
            self.key("netfilter_hook", namespaces, keys.wrapping_add(number * size), true);
        }
        self.count("netfilter_hook", needed.len() as u64);
        Ok(())
    }

    fn programs(&mut self, lists: &mut Lists<'_>) -> Result<()> {
        let named = |name: &str| self.symbols.address_of(name);
        let (Some(keys), Some(root), Some(size)) = (named(PROGRAMS), named("cgrp_dfl_root"), self.size("static_key"))
        else {
            return Ok(());
        };
        let group = |member| self.offset("cgroup", member);
        let (Some(effective), Some(programs), Some(flags), Some(own), Some(first), Some(children), Some(sibling)) = (
            group("bpf.effective"),
            group("bpf.progs"),
            group("bpf.flags"),
            group("self"),
            self.offset("cgroup_root", "cgrp"),
            self.offset("cgroup_subsys_state", "children"),
            self.offset("cgroup_subsys_state", "sibling"),
        ) else {
            return Ok(());
        };
        let kinds = programs.saturating_sub(effective) / lists.word as u64;
        let Some(width) = flags.saturating_sub(programs).checked_div(kinds).filter(|&width| width > 0) else {
            return Ok(());
        };
        let key = |number: u64| keys.wrapping_add(number * size);
        let several = self.symbols.at(key(1)).is_some_and(|(name, _)| name == PROGRAMS);
        let mut attached = std::collections::BTreeSet::new();
        let mut groups = vec![lists.run_time(root.wrapping_add(first))];
        while let Some(group) = groups.pop() {
            for kind in 0..kinds {
                let head = group.wrapping_add(programs + kind * width);
                // The head of a list that is empty points to itself, or, where it has one pointer, to nothing.
                if lists.pointer(head)?.is_some_and(|to| to != 0 && to != head) {
                    attached.insert(if several { kind } else { 0 });
                }
            }
            let below = lists.linked(group.wrapping_add(own + children), sibling)?;
            groups.extend(below.into_iter().map(|state| state.wrapping_sub(own)));
        }
        for &kind in &attached {
            self.key("cgroup_bpf", root, key(kind), true);
        }
        self.count("cgroup_bpf", attached.len() as u64);
        Ok(())
    }
}
