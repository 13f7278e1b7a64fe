//! State from memory: every site votes for what would explain it, and the majority decides.
//!
//! Unknowns are decided one after the other, first those that others depend on. A site votes for a value where its cluster
//! is byte for byte what this value makes it, and other values make it something else; a site that fits no value has no
//! vote. What the user gives is not inferred. A tie is decided for the value that the image was built with.

mod backends;
mod branches;
mod cfi;
mod constants;
mod features;
mod flags;
mod keys;
mod returns;
mod slots;
mod static_calls;
mod tally;

use std::collections::HashMap;

use super::form::{SHORT, same};
use super::site_map::{Cluster, SiteMap, is_of_hashes};
use super::state::{Known, State, Target};
use super::view::View;
use super::visit::OpSlot;
use crate::plan::Pass;
use tally::Tally;

/// What decides the text and is inferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unknown {
    /// The nop table.
    Nops,
    /// One CPU, or more.
    Processors,
    /// `endbr` sealed.
    Sealed,
    /// Tracer's calls are nops.
    Untraced,
    /// What Xen writes outside of tables.
    Xen,
    /// How a hypercall page that Xen filled calls it: a place in `HvmCall::ALL`.
    HvmCall,
    /// The trampoline that HID-BPF attaches at boot.
    HidBpf,
    /// How indirect calls are checked.
    Cfi,
    /// The seed of their hashes.
    Seed,
    /// How indirect branches are made.
    Branches,
    /// Where returns go.
    Returns,
    /// Calls of ops as built.
    CallsStay,
    /// Ops inlined by type.
    Inlines,
    /// A page of ITS thunks.
    Page(u16),
    /// A run-time constant, by its place among the tables.
    Constant(u16),
    /// An op slot, by address.
    Slot(u64),
    /// A static call, by address of its key.
    Call(u64),
    /// A static key, by address.
    Key(u64),
    /// A feature, by number.
    Feature(u16),
}

/// What the sites said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vote {
    /// About what.
    pub about: Unknown,
    /// The value they gave it: a number, an address, 0 or 1.
    pub value: u64,
    /// How many sites say so.
    pub votes: u32,
    /// How many say otherwise.
    pub against: u32,
    /// The user said it.
    pub known: bool,
}

/// So many sites have to agree on a value that no table and no backend suggests.
const ENOUGH: u32 = 3;

/// A search under way.
pub(super) struct Inference<'s, 'a, 'v> {
    map: &'s SiteMap<'a>,
    view: &'s View<'v>,
    known: &'s Known,
    pub state: State,
    pub votes: Vec<Vote>,
    /// The backends that fit, where any is known: those that the text cannot tell apart.
    pub backends: Vec<String>,
    slot_tallies: Vec<Tally<u64>>,
    call_tallies: Vec<Tally<Target>>,
    form: Vec<u8>,
}

impl<'s, 'a, 'v> Inference<'s, 'a, 'v> {
    pub fn new(map: &'s SiteMap<'a>, view: &'s View<'v>, known: &'s Known) -> Inference<'s, 'a, 'v> {
        let state = State {
            nops: map.info.nops.first().copied().unwrap_or(State::default().nops),
            slots: map.slots.iter().map(|slot| slot.built).collect(),
            keys: map.keys.iter().map(|&(_, on)| on).collect(),
            calls: vec![Target::Built; map.calls.len()],
            constants: map.tables.constants.iter().map(|_| 0).collect(),
            ..State::default()
        };
        Inference {
            map,
            view,
            known,
            state,
            votes: Vec::new(),
            backends: Vec::new(),
            slot_tallies: Vec::new(),
            call_tallies: Vec::new(),
            form: Vec::new(),
        }
    }

    pub fn run(&mut self) {
        self.nops();
        self.flag(Unknown::Processors, self.known.uniprocessor, Pass::SmpLocks, |state| &mut state.uniprocessor);
        self.cfi();
        self.flag(Unknown::Sealed, None, Pass::Ibt, |state| &mut state.sealed);
        self.flag(Unknown::Untraced, None, Pass::Mcount, |state| &mut state.untraced);
        self.hid_bpf();
        self.branches();
        self.returns();
        self.constants();
        self.keys();
        self.calls();
        self.calls_stay();
        self.inlines();
        self.forbidden();
        self.slots();
        self.features();
        self.xen();
        // Once more, now that features are decided.
        self.backends();
    }

    /// The state of a module: the kernel's, with what the module has of its own inferred. `known` has the kernel's keys.
    pub fn run_in(&mut self, kernel: &SiteMap<'_>, state: &State) {
        let slots: HashMap<u64, u64> = kernel.slots.iter().map(|slot| slot.address).zip(state.slots.clone()).collect();
        let of_module = |slot: &OpSlot| slots.get(&slot.address).copied().unwrap_or(slot.built);
        let own = std::mem::take(&mut self.state);
        self.state = State {
            slots: self.map.slots.iter().map(of_module).collect(),
            keys: own.keys,
            calls: own.calls,
            constants: own.constants,
            pages: Vec::new(),
            ..state.clone()
        };
        let retpolines = self.alone(Pass::Retpolines);
        self.pages(&retpolines);
        self.keys();
        self.calls();
        self.votes.retain(|vote| !vote.known);
    }

    fn vote(&mut self, about: Unknown, value: u64, votes: u32, against: u32, known: bool) {
        if votes + against > 0 || known {
            self.votes.push(Vote { about, value, votes, against, known });
        }
    }

    /// Whether an unknown is no longer open: the user said it, or enough sites did.
    fn settled(&self, about: Unknown) -> bool {
        self.votes.iter().any(|vote| vote.about == about && (vote.known || vote.votes >= ENOUGH))
    }

    /// The clusters in `.text` that no other pass comes to.
    fn alone(&self, pass: Pass) -> Vec<&'s Cluster> {
        let map = self.map;
        // Hashes are decided before all others, so that they do not hide a site from these.
        let one = u8::from(!is_of_hashes(pass));
        map.group(pass).filter(|cluster| cluster.passes <= one).collect()
    }

    /// Whether memory holds this cluster's form under the state; `None` where it cannot be read.
    fn fits(&mut self, cluster: &Cluster) -> bool {
        let Some(found) = cluster.found(self.view) else { return false };
        same(self.map.form_in(cluster, &self.state, &mut [0; SHORT], &mut self.form), found)
    }
}
