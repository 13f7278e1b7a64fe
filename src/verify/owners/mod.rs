//! Who else writes text at run time: where that kernel lets them, and exactly the bytes that it writes for them.
//!
//! | owner | writes | where |
//! |---|---|---|
//! | ftrace, livepatch | `call` of `ftrace_caller`, `ftrace_regs_caller`, `ftrace_graph_caller` or of a trampoline outside the kernel, 5 bytes | rows of `__mcount_loc` |
//! | | the tracer's name in `call` or `jmp`, 5 bytes | `ftrace_call`, `ftrace_regs_call`, `ftrace_graph_call` |
//! | kprobes | `int3`, 1 byte | the first byte of an instruction that is not reserved |
//! | | `jmp` outside the kernel, 5 bytes; what is behind them of the instructions displaced stays | where the kernel optimises probes |
//! | | a call, as ftrace (`KPROBES_ON_FTRACE`) | rows of `__mcount_loc`: there no `int3` and no `jmp` |
//! | bpf | `call` of a trampoline, since 6.19 `jmp` too, 5 bytes | rows of `__mcount_loc` |
//! | | `jmp` outside the kernel, 5 bytes | the nop at the head of `bpf_dispatcher_*_func` |
//! | modules, bpf | a static call's branch to a function outside the kernel | all sites of its key alike |
//!
//! No owner writes jump labels, or static calls in any other way. That bytes are what an owner writes proves nothing, as an
//! attacker can write the same: they are unexplained unless the user allows that owner, and only these bytes are allowed.
//!
//! Sources: kernel/kprobes.c, arch/x86/kernel/kprobes/{core,opt}.c, arch/x86/kernel/ftrace.c, `bpf_arch_text_poke()` of
//! arch/x86/net/bpf_jit_comp.c (5.10, 6.1, 6.12); `ftrace_call_replace()` of arch/x86/kernel/ftrace.c (25e4e3565d45, 6.19).

mod decoded;
mod probes;

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;

use self::decoded::Decoded;
use super::site_map::{Cluster, SiteMap};
use super::state::{State, Target};
use super::view::View;
use super::visit::Kind;
use crate::image::Bits;
use crate::insn::{self, CALL, CALL_LEN, JMP};
use crate::plan::Pass;

/// Who writes text at run time, besides the passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owner {
    /// A tracer at the heads of functions.
    Ftrace,
    /// A live patch, through ftrace.
    Livepatch,
    /// A probe: a breakpoint, the jump it was optimised to, or a call through ftrace.
    Kprobes,
    /// A BPF program that is attached to a function, or that a dispatcher jumps to.
    Bpf,
    /// A static call of a function in a module.
    Modules,
}

impl Owner {
    /// The name the command line uses.
    pub fn name(self) -> &'static str {
        match self {
            Owner::Ftrace => "ftrace",
            Owner::Livepatch => "livepatch",
            Owner::Kprobes => "kprobes",
            Owner::Bpf => "bpf",
            Owner::Modules => "modules",
        }
    }
}

/// Bytes that an owner may have written: no more than the kernel writes for it, at a place where the kernel lets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    /// Where they begin.
    pub address: u64,
    /// What was written.
    pub bytes: Vec<u8>,
    /// Who writes such bytes there, the likeliest first.
    pub owners: Vec<Owner>,
    /// Where they branch to; none for a breakpoint.
    pub target: Option<u64>,
    /// The key of the static call whose branch it is.
    pub call: Option<u64>,
}

/// Wrong text, seen as what others write.
pub(super) struct Writers<'w, 'a> {
    map: &'w SiteMap<'a>,
    state: &'w State,
    /// What `.text` should hold, and what it holds.
    expected: &'w [u8],
    found: &'w [u8],
    view: View<'w>,
    /// Whether all sites of a static call go to one place outside: by key and target.
    agreed: RefCell<HashMap<(u16, u64), bool>>,
    /// The function that was looked at last.
    decoded: RefCell<Decoded>,
}

impl<'w, 'a> Writers<'w, 'a> {
    pub fn new(map: &'w SiteMap<'a>, state: &'w State, expected: &'w [u8], view: &View<'w>) -> Writers<'w, 'a> {
        let (view, found) = (*view, view.all());
        Writers { map, state, expected, found, view, agreed: RefCell::default(), decoded: RefCell::default() }
    }

    /// What a wrong byte is part of.
    pub fn at(&self, address: u64) -> Option<Owned> {
        let map = self.map;
        if let Some(&call) = map.tracer_calls.iter().find(|&&call| within(address, call, CALL_LEN)) {
            return self.tracer_call(call);
        }
        if let Some(cluster) = map.touching(address, address.saturating_add(1)).first() {
            for visit in map.visits(cluster) {
                match visit.kind {
                    Kind::Mcount(_) if within(address, visit.address, CALL_LEN) => {
                        return self.entry(visit.address).or_else(|| self.dispatcher(visit.address));
                    }
                    Kind::Call { key, .. } | Kind::Trampoline { key: Some(key), .. }
                        if within(address, visit.address, visit.len.into()) =>
                    {
                        return self.static_call(cluster, visit.address, visit.len.into(), key);
                    }
                    Kind::Jump { .. } if within(address, visit.address, visit.len.into()) => return None,
                    _ => {}
                }
            }
        }
        let dispatcher = map.bpf.iter().find(|&&(start, end)| (start..end).contains(&address));
        let dispatched = dispatcher.and_then(|&(start, _)| {
            let heads = [start, start.saturating_add(4)];
            heads.into_iter().filter(|&head| within(address, head, CALL_LEN)).find_map(|head| self.dispatcher(head))
        });
        dispatched.or_else(|| self.probe(address))
    }

    fn offset(&self, address: u64) -> Option<usize> {
        usize::try_from(address.checked_sub(self.map.text.0)?).ok()
    }

    /// The branch of five bytes that memory has at an address, and where it goes.
    fn branch(&self, address: u64) -> Option<(u8, u64)> {
        let [opcode @ (CALL | JMP), a, b, c, d] = *self.found.get(self.offset(address)?..)?.first_chunk()? else {
            return None;
        };
        Some((opcode, self.map.code.target(address, CALL_LEN, &[a, b, c, d])))
    }

    /// Behind everything of the kernel, where modules and what is allocated for code lie.
    fn outside(&self, target: u64) -> bool {
        target >= self.map.end && !self.map.is_function(target) && self.map.code.from(target).is_empty()
    }

    fn owned(&self, address: u64, len: usize, owners: &[Owner], target: Option<u64>) -> Option<Owned> {
        let at = self.offset(address)?;
        let bytes = self.found.get(at..at.checked_add(len)?)?.to_vec();
        Some(Owned { address, bytes, owners: owners.to_vec(), target, call: None })
    }

    /// The head of a traced function: `ftrace_make_call()`, and `bpf_arch_text_poke()` through it.
    fn entry(&self, address: u64) -> Option<Owned> {
        let (opcode, target) = self.branch(address)?;
        if opcode == JMP {
            let legal = self.map.rules.enters_by_jump && self.map.bits == Bits::B64 && self.outside(target);
            return legal.then(|| self.owned(address, CALL_LEN, &[Owner::Bpf], Some(target)))?;
        }
        let owners: &[Owner] = match self.map.tracers.iter().position(|&tracer| tracer == target) {
            None if self.outside(target) => &[Owner::Ftrace, Owner::Livepatch, Owner::Kprobes, Owner::Bpf],
            // A probe needs the registers (`FTRACE_OPS_FL_SAVE_REGS` of arm_kprobe_ftrace()).
            Some(_) => &[Owner::Ftrace, Owner::Livepatch, Owner::Kprobes],
            None => return None,
        };
        // The blacklist is about the function: a tracer may be there, a probe not.
        let refused = self.map.reserved.refuses(address);
        let wide = self.map.bits == Bits::B64;
        let may = |owner: &&Owner| match owner {
            Owner::Kprobes => !refused,
            // Live patches (`HAVE_LIVEPATCH`) and BPF's trampolines are x86-64's alone.
            Owner::Livepatch | Owner::Bpf => wide,
            _ => true,
        };
        let owners: Vec<Owner> = owners.iter().filter(may).copied().collect();
        self.owned(address, CALL_LEN, &owners, Some(target))
    }

    /// `ftrace_update_ftrace_func()`, `ftrace_mod_jmp()`: which function of the kernel the tracer's code goes to.
    fn tracer_call(&self, address: u64) -> Option<Owned> {
        let (opcode, target) = self.branch(address)?;
        let same = self.offset(address).and_then(|at| self.expected.get(at)) == Some(&opcode);
        let owners = [Owner::Ftrace, Owner::Livepatch, Owner::Kprobes, Owner::Bpf];
        (same && self.map.is_function(target)).then(|| self.owned(address, CALL_LEN, &owners, Some(target)))?
    }

    /// `bpf_dispatcher_update()`: the nop at the head of a dispatcher becomes a jump (5.6 to 6.1).
    fn dispatcher(&self, address: u64) -> Option<Owned> {
        let is_nop =
            |code: &[u8]| code.starts_with(&self.state.nops.atomic5) || code.starts_with(b"\x0f\x1f\x44\x00\x00");
        let nop = self.offset(address).and_then(|at| self.expected.get(at..)).is_some_and(is_nop);
        let dispatcher = self.map.bpf.iter().any(|&(start, end)| (start..end).contains(&address));
        let (JMP, target) = self.branch(address)? else { return None };
        let legal = nop && dispatcher && self.outside(target);
        legal.then(|| self.owned(address, CALL_LEN, &[Owner::Bpf], Some(target)))?
    }

    /// A static call that goes outside, all sites of its key and its trampoline to the same place.
    fn static_call(&self, cluster: &Cluster, address: u64, len: usize, key: u16) -> Option<Owned> {
        let found = self.found.get(self.offset(address)?..)?;
        let target = match found {
            [CALL | JMP, a, b, c, d, ..] => self.map.code.target(address, 5, &[*a, *b, *c, *d]),
            [0x0f, 0x80..=0x8f, a, b, c, d, ..] => self.map.code.target(address, 6, &[*a, *b, *c, *d]),
            _ => return None,
        };
        let agreed = self.agreed.borrow().get(&(key, target)).copied();
        let agreed = agreed.unwrap_or_else(|| {
            let agreed = self.outside(target) && self.all_go_to(key, target);
            self.agreed.borrow_mut().insert((key, target), agreed);
            agreed
        });
        let call = self.map.calls[usize::from(key)].0;
        let owner = if self.map.bpf_calls.contains(&call) { Owner::Bpf } else { Owner::Modules };
        let inside = address >= cluster.start && address + len as u64 <= cluster.end();
        let owned = (agreed && inside).then(|| self.owned(address, len, &[owner], Some(target)))??;
        Some(Owned { call: Some(call), ..owned })
    }

    /// Whether every site of a static call in `.text`, as far as it could be read, is what a call of this function makes it.
    fn all_go_to(&self, key: u16, target: u64) -> bool {
        let mut state = self.state.clone();
        state.calls[usize::from(key)] = Target::Updated(target);
        let mut form = Vec::new();
        let of_key = |cluster: &&Cluster| {
            self.map.visits(cluster).iter().any(|visit| match visit.kind {
                Kind::Call { key: of, .. } | Kind::Trampoline { key: Some(of), .. } => of == key,
                _ => false,
            })
        };
        let clusters = self.map.group(Pass::StaticCalls).chain(self.map.group(Pass::Trampolines));
        let read = |cluster: &&Cluster| self.view.is_read(cluster.start, cluster.end());
        clusters.filter(of_key).filter(read).all(|cluster| {
            self.map.form(cluster, &state, &mut form);
            let at = self.offset(cluster.start);
            at.and_then(|at| self.found.get(at..at + form.len())) == Some(&form[..])
        })
    }
}

fn within(address: u64, start: u64, len: usize) -> bool {
    address.wrapping_sub(start) < len as u64
}

/// No function is longer, as far as is known: what begins further before is another's.
const LONGEST: u64 = 1 << 16;

/// Where the instruction that holds these bytes begins and ends, as far as the function's code tells; where no symbol says
/// where that begins, the code behind the site before.
pub(super) fn instruction(map: &SiteMap<'_>, text: &[u8], run: &Range<usize>) -> Range<usize> {
    let start = map.text.0;
    let address = start + run.start as u64;
    let after = map.functions.partition_point(|&function| function <= address);
    let function = after.checked_sub(1).map(|at| map.functions[at]);
    let site = || {
        let after = map.clusters.partition_point(|cluster| cluster.end() <= address);
        after.checked_sub(1).map(|at| map.clusters[at].end())
    };
    let near = |&begin: &u64| begin >= start && address - begin <= LONGEST;
    let begin = function.filter(near).or_else(|| site().filter(near)).unwrap_or(address);
    let mut at = (begin - start) as usize;
    let mut from = run.start;
    while at < run.end {
        let Some(step) = insn::step(map.bits, &text[at..]) else { break };
        if at + step.len > run.start {
            from = from.min(at);
        }
        at += step.len;
    }
    from..at.max(run.end)
}
