//! All sites of an image, cut into clusters: stretches of code that no site crosses the ends of.
//!
//! A cluster is explained by itself. Where two tables name one place (an op's call that is an alternative too) they are in
//! one cluster, and its form is what the passes make of it one after the other.

use super::counting::Counting;
use super::info::KernelInfo;
use super::its::{Layout, Place, Thunks};
use super::state::State;
use super::view::View;
use super::visit::{Branch, OpSlot, Visit};
use crate::image::{Bits, Image};
use crate::plan::{ALL_PASSES, KernelCode, Landmarks, Pass, Rules, Stage};
use crate::sites::{Reserved, Tables};

/// A stretch of code, and the visits in it: in the order of the stages, then of the tables.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cluster {
    pub start: u64,
    pub len: u32,
    pub first: u32,
    pub count: u32,
    /// How many passes come to it, those of hashes aside.
    pub passes: u8,
}

/// Whether a pass rewrites hashes, or what checks them.
pub(super) fn is_of_hashes(pass: Pass) -> bool {
    matches!(pass, Pass::Cfi | Pass::CfiCallers)
}

impl Cluster {
    pub fn end(&self) -> u64 {
        self.start + u64::from(self.len)
    }

    /// What memory has there; `None` where not all of it is in `.text`, and was read.
    pub fn found<'v>(&self, view: &View<'v>) -> Option<&'v [u8]> {
        view.bytes(self.start, self.len as usize)
    }
}

/// The kernel that a module is loaded in.
#[derive(Clone, Copy)]
pub(super) struct ModuleHost<'h, 'a> {
    pub image: &'h Image,
    pub map: &'h SiteMap<'a>,
    /// Where the module's code is, as linked: its first address, and the one behind its last.
    pub text: (u64, u64),
    /// Where `lock` prefixes are patched out.
    pub locks: (u64, u64),
}

/// Every site of an image.
pub(super) struct SiteMap<'a> {
    /// The image is a module, which is patched after the kernel.
    pub late: bool,
    pub tables: &'a Tables,
    pub rules: &'a Rules,
    pub info: KernelInfo,
    pub landmarks: Landmarks,
    /// How far before a function its preamble begins, as this kernel looks for it: 16 and more.
    pub preamble: u64,
    /// The code as loaded, before any pass.
    pub code: KernelCode<'a>,
    pub bits: Bits,
    /// `.text`.
    pub text: (u64, u64),
    pub visits: Vec<Visit>,
    /// By address.
    pub clusters: Vec<Cluster>,
    /// By a pass's number: the places in `clusters` of those in `.text` that it comes to.
    pub(super) groups: [Vec<u32>; ALL_PASSES.len()],
    pub branches: Vec<Option<Branch>>,
    pub slots: Vec<OpSlot>,
    /// By row of `.altinstructions`: whether its replacement has sites itself.
    pub nested: Vec<bool>,
    /// Slot of each direct-call row.
    pub row_slots: Vec<Option<u16>>,
    /// Address of each static key, and whether it is on as built.
    pub keys: Vec<(u64, bool)>,
    /// Address of each static call's key, and its function as built.
    pub calls: Vec<(u64, u64)>,
    /// Where functions and their preambles begin, in order.
    pub functions: Vec<u64>,
    /// Preambles of functions: nothing calls these.
    pub preambles: Vec<u64>,
    /// `ftrace_caller` and its like: what traced functions call at their head.
    pub tracers: Vec<u64>,
    /// The addresses in them of the calls that go to the tracer.
    pub tracer_calls: Vec<u64>,
    /// Dispatchers of BPF: where they begin and end.
    pub bpf: Vec<(u64, u64)>,
    /// Keys of the static calls that a dispatcher is reached by.
    pub bpf_calls: Vec<u64>,
    /// Where HID-BPF attaches a trampoline at boot, and what the tracer's code calls then.
    pub hid_bpf: Option<(u64, u64)>,
    /// Where the kernel refuses probes.
    pub reserved: Reserved,
    /// Where the kernel's image ends, as linked.
    pub end: u64,
    pub thunks: Thunks,
    pub counting: Counting,
    order: Vec<Stage>,
}

impl<'a> SiteMap<'a> {
    /// A map without sites.
    pub(super) fn empty(
        tables: &'a Tables,
        rules: &'a Rules,
        info: KernelInfo,
        landmarks: Landmarks,
        code: KernelCode<'a>,
        text: (u64, u64),
    ) -> SiteMap<'a> {
        SiteMap {
            late: false,
            tables,
            rules,
            info,
            landmarks,
            preamble: rules.preamble(tables.preambles),
            bits: code.bits(),
            code,
            text,
            visits: Vec::new(),
            clusters: Vec::new(),
            groups: Default::default(),
            branches: Vec::new(),
            slots: Vec::new(),
            nested: Vec::new(),
            row_slots: Vec::new(),
            keys: Vec::new(),
            calls: Vec::new(),
            functions: Vec::new(),
            preambles: Vec::new(),
            tracers: Vec::new(),
            tracer_calls: Vec::new(),
            bpf: Vec::new(),
            bpf_calls: Vec::new(),
            hid_bpf: None,
            reserved: Reserved::default(),
            end: text.1,
            thunks: Thunks::default(),
            counting: Counting::default(),
            order: rules.order.to_vec(),
        }
    }

    pub fn stage(&self, stage: Stage) -> Option<u8> {
        self.order.iter().position(|&s| s == stage).map(|at| at as u8)
    }

    /// The visits of a cluster.
    pub fn visits(&self, cluster: &Cluster) -> &[Visit] {
        &self.visits[cluster.first as usize..(cluster.first + cluster.count) as usize]
    }

    /// The clusters that have a byte in `start..end`.
    pub fn touching(&self, start: u64, end: u64) -> &[Cluster] {
        let from = self.clusters.partition_point(|cluster| cluster.end() <= start);
        let to = self.clusters.partition_point(|cluster| cluster.start < end);
        self.clusters.get(from..to).unwrap_or_default()
    }

    /// The clusters in `.text` that a pass comes to.
    pub fn group(&self, pass: Pass) -> impl Iterator<Item = &Cluster> {
        let places = self.groups.get(pass as usize).into_iter().flatten();
        places.map(|&place| &self.clusters[place as usize])
    }

    /// By row of `.retpoline_sites`: page and offset of its ITS thunk, where it has one under a state.
    pub fn its(&self, state: &State) -> &[Option<Place>] {
        let layout = Layout { fenced: state.branches.fenced(), paranoid: self.is_paranoid(state) };
        let in_check = |row, address| self.is_in_check(row, address, state);
        self.thunks.places(&self.tables.retpolines, &self.branches, layout, in_check)
    }

    /// Whether a function begins at an address.
    pub fn is_function(&self, address: u64) -> bool {
        match self.functions.is_empty() {
            // Nothing says where functions begin: it is code, at least.
            true => !self.code.from(address).is_empty(),
            false => self.functions.binary_search(&address).is_ok() && self.preambles.binary_search(&address).is_err(),
        }
    }

    /// The stage of `apply_alternatives()`.
    pub fn alternatives_stage(&self) -> u8 {
        self.stage(Stage::Alternatives).unwrap_or(u8::MAX)
    }

    /// Which stage this is.
    pub fn stage_of(&self, visit: &Visit) -> Stage {
        self.order[usize::from(visit.stage)]
    }
}
