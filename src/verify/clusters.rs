//! All sites of an image, cut into clusters: stretches of code that no site crosses the ends of.
//!
//! A cluster is explained by itself. Where two tables name one place (an op's call that is an alternative too) they are in
//! one cluster, and its form is what the passes make of it one after the other.

use super::form::callthunks::{Counting, MAX_TEMPLATE};
use super::form::its::Thunks;
use super::form::{PASSES, number};
use super::info::KernelInfo;
use super::pieces::{Branch, Kind, Piece, Slot};
use crate::error::{Error, Result};
use crate::image::{Bits, Image};
use crate::plan::{Landmarks, Memory, Pass, Rules, Stage};
use crate::sites::{Reserved, Tables};

/// Forms are made in a buffer of this size; no real cluster comes near.
const LONGEST: u64 = 1 << 16;

/// `hid_bpf_preload_skel()` of drivers/hid/bpf (6.3 to 6.10) attaches a program to this function of its own while the
/// kernel boots, and with that ftrace calls the function that walks its list.
const HID_BPF: &str = "__hid_bpf_tail_call";
const LIST_FUNCTION: &str = "arch_ftrace_ops_list_func";

/// What ftrace calls at the head of a function.
const TRACERS: [&str; 2] = ["ftrace_caller", "ftrace_regs_caller"];
/// Where those call the tracer, or jump to it: `ftrace_update_ftrace_func()`, `ftrace_enable_ftrace_graph_caller()` of
/// `arch/x86/kernel/ftrace.c`.
const TRACER_CALLS: [&str; 3] = ["ftrace_call", "ftrace_regs_call", "ftrace_graph_call"];

/// A stretch of code, and the pieces in it: in the order of the stages, then of the tables.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cluster {
    pub start: u64,
    pub len: u32,
    pub first: u32,
    pub count: u32,
}

impl Cluster {
    pub fn end(&self) -> u64 {
        self.start + u64::from(self.len)
    }
}

/// The kernel that a module is loaded in.
#[derive(Clone, Copy)]
pub(super) struct Host<'h, 'a> {
    pub image: &'h Image,
    pub map: &'h SiteMap<'a>,
    /// Where the module's code is, as linked: its first address, and the one behind its last.
    pub text: (u64, u64),
    /// Where `lock` prefixes are patched out.
    pub locks: (u64, u64),
}

/// Every site of an image.
pub(super) struct SiteMap<'a> {
    /// It is a module's, which was patched once the kernel was.
    pub late: bool,
    pub tables: &'a Tables,
    pub rules: &'a Rules,
    pub info: KernelInfo,
    pub marks: Landmarks,
    /// The code as loaded, before any pass.
    pub code: Memory,
    pub bits: Bits,
    /// `.text`.
    pub text: (u64, u64),
    pub pieces: Vec<Piece>,
    /// By address.
    pub clusters: Vec<Cluster>,
    /// Those in `.text` that each pass comes to, by its number and their place.
    groups: [Vec<u32>; PASSES.len()],
    pub branches: Vec<Option<Branch>>,
    pub slots: Vec<Slot>,
    /// Slot of each direct-call row.
    pub row_slots: Vec<Option<u16>>,
    /// Address of each static key, and whether it is on as built.
    pub keys: Vec<(u64, bool)>,
    /// Address of each static call's key, and its function as built.
    pub calls: Vec<(u64, u64)>,
    /// Where functions begin, in order.
    pub functions: Vec<u64>,
    /// What calls at the head of functions call.
    pub tracers: Vec<u64>,
    /// What those call in turn: where, not whom.
    pub tracer_calls: Vec<u64>,
    /// Dispatchers of BPF: where they begin and end.
    pub bpf: Vec<(u64, u64)>,
    /// Keys of the static calls that a dispatcher is reached by.
    pub bpf_calls: Vec<u64>,
    /// Where HID-BPF attaches a trampoline at boot, and what the tracer's code calls then.
    pub hid_bpf: Option<(u64, u64)>,
    /// Where nobody may probe.
    pub reserved: Reserved,
    /// Where the kernel's image ends, as linked.
    pub end: u64,
    pub thunks: Thunks,
    pub counting: Counting,
    order: Vec<Stage>,
}

impl<'a> SiteMap<'a> {
    pub fn new(
        image: &Image,
        tables: &'a Tables,
        rules: &'a Rules,
        info: KernelInfo,
        code: Memory,
    ) -> Result<SiteMap<'a>> {
        let section = image.section(".text").ok_or_else(|| Error::image("no section .text"))?;
        let size = image.section_bytes(section).len();
        if code.from(section.address).len() < size {
            return Err(Error::image("section .text is not code").in_section(".text"));
        }
        let text = (section.address, section.address + size as u64);
        let mut map = SiteMap::empty(tables, rules, info, Landmarks::of(image)?, code, text);
        map.functions = functions(image)?;
        map.counting.template = map.template(image);
        map.name_others(image)?;
        map.reserved = Reserved::read(image)?;
        map.end = image.bounds().1;
        map.collect(image, None)?;
        map.cut()?;
        Ok(map)
    }

    /// The sites of a module. Its code and its tables are linked to the kernel's addresses.
    pub fn of_module(image: &Image, tables: &'a Tables, code: Memory, host: Host<'_, 'a>) -> Result<SiteMap<'a>> {
        let kernel = host.map;
        // What is the image's alone is not in modules: Xen's stubs, the way back from it.
        let marks = Landmarks { text: host.locks, xen_iret: None, hypercall_page: None, ..kernel.marks.clone() };
        let mut map = SiteMap::empty(tables, kernel.rules, kernel.info.clone(), marks, code, host.text);
        map.late = true;
        map.functions = functions(image)?;
        map.functions.extend_from_slice(&kernel.functions);
        map.functions.sort_unstable();
        map.functions.dedup();
        map.tracers.clone_from(&kernel.tracers);
        map.reserved = Reserved::read(image)?;
        map.end = kernel.end;
        map.collect(image, Some(host.image))?;
        map.cut()?;
        Ok(map)
    }

    fn empty(
        tables: &'a Tables,
        rules: &'a Rules,
        info: KernelInfo,
        marks: Landmarks,
        code: Memory,
        text: (u64, u64),
    ) -> SiteMap<'a> {
        SiteMap {
            late: false,
            tables,
            rules,
            info,
            marks,
            bits: code.bits(),
            code,
            text,
            pieces: Vec::new(),
            clusters: Vec::new(),
            groups: Default::default(),
            branches: Vec::new(),
            slots: Vec::new(),
            row_slots: Vec::new(),
            keys: Vec::new(),
            calls: Vec::new(),
            functions: Vec::new(),
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

    /// What counts a call, as loaded: where it lies, and its bytes.
    fn template(&self, image: &Image) -> (u64, Vec<u8>) {
        let Some((start, end)) = self.marks.call_template else { return (0, Vec::new()) };
        let len = end.wrapping_sub(start).min(MAX_TEMPLATE) as usize;
        let loaded = self.code.from(start).get(..len).or_else(|| image.read(start, len));
        (start, loaded.unwrap_or_default().to_vec())
    }

    fn name_others(&mut self, image: &Image) -> Result<()> {
        let Some(symbols) = image.symbols()? else { return Ok(()) };
        let addresses = |names: &[&str]| names.iter().filter_map(|name| symbols.address_of(name)).collect();
        self.tracers = addresses(&TRACERS);
        self.tracer_calls = addresses(&TRACER_CALLS);
        let at = |name: &str| symbols.address_of(name);
        self.hid_bpf = at(HID_BPF).zip(at(LIST_FUNCTION));
        let dispatched = symbols.iter().filter(|(.., name)| name.starts_with("__SCK__bpf_dispatcher_"));
        self.bpf_calls = dispatched.map(|(key, ..)| key).collect();
        for (start, _, _) in symbols.iter().filter(|(.., name)| name.starts_with("bpf_dispatcher_")) {
            let after = self.functions.partition_point(|&function| function <= start);
            self.bpf.push((start, self.functions.get(after).copied().unwrap_or(start)));
        }
        Ok(())
    }

    /// Sorts pieces into clusters.
    fn cut(&mut self) -> Result<()> {
        // Stable: pieces of one stage stay in the order of their table.
        self.pieces.sort_by_key(|piece| piece.address);
        let mut first = 0;
        while first < self.pieces.len() {
            let start = self.pieces[first].address;
            let mut end = start;
            let mut last = first;
            while let Some(piece) = self.pieces.get(last)
                && (last == first || piece.address < end)
            {
                end = end.max(piece.address.saturating_add(piece.len.max(1).into()));
                last += 1;
            }
            if end - start > LONGEST {
                return Err(Error::table(format!("sites overlap each other up to {end:#x}")).at_address(start));
            }
            if last - first > 1 {
                self.pieces[first..last].sort_by_key(|piece| (piece.stage, order(piece.kind)));
            }
            if end > self.text.0 && start < self.text.1 {
                let place = self.clusters.len() as u32;
                for piece in &self.pieces[first..last] {
                    let group = self.groups.get_mut(usize::from(number(piece.kind.pass())));
                    if let Some(group) = group.filter(|group| group.last() != Some(&place)) {
                        group.push(place);
                    }
                }
            }
            let (first_u32, count) = (first as u32, (last - first) as u32);
            self.clusters.push(Cluster { start, len: (end - start) as u32, first: first_u32, count });
            first = last;
        }
        Ok(())
    }

    /// The pieces of a cluster.
    pub fn pieces(&self, cluster: &Cluster) -> &[Piece] {
        &self.pieces[cluster.first as usize..(cluster.first + cluster.count) as usize]
    }

    /// The clusters that have a byte in `start..end`.
    pub fn touching(&self, start: u64, end: u64) -> &[Cluster] {
        let from = self.clusters.partition_point(|cluster| cluster.end() <= start);
        let to = self.clusters.partition_point(|cluster| cluster.start < end);
        self.clusters.get(from..to).unwrap_or_default()
    }

    /// The clusters in `.text` that a pass comes to.
    pub fn group(&self, pass: Pass) -> impl Iterator<Item = &Cluster> {
        let places = self.groups.get(usize::from(number(pass))).into_iter().flatten();
        places.map(|&place| &self.clusters[place as usize])
    }

    /// Whether a function begins at an address.
    pub fn is_function(&self, address: u64) -> bool {
        match self.functions.is_empty() {
            // Nothing says where functions begin: it is code, at least.
            true => !self.code.from(address).is_empty(),
            false => self.functions.binary_search(&address).is_ok(),
        }
    }

    /// The stage of `apply_alternatives()`.
    pub fn alternatives_stage(&self) -> u8 {
        self.stage(Stage::Alternatives).unwrap_or(u8::MAX)
    }

    /// Which stage this is.
    pub fn stage_of(&self, piece: &Piece) -> Stage {
        self.order[usize::from(piece.stage)]
    }
}

/// Table order within a stage.
fn order(kind: Kind) -> u32 {
    match kind {
        Kind::Paravirt { row, .. }
        | Kind::Alternatives { first: row, .. }
        | Kind::Retpoline(row)
        | Kind::Return(row)
        | Kind::Endbr(row)
        | Kind::Preamble(row)
        | Kind::CheckedEndbr(row)
        | Kind::CfiCaller(row)
        | Kind::SealedHash(row)
        | Kind::Lock(row)
        | Kind::Mcount(row)
        | Kind::TracerCall(row)
        | Kind::Jump { row, .. }
        | Kind::Call { row, .. }
        | Kind::Trampoline { row, .. }
        | Kind::Constant { row, .. }
        | Kind::XenStub(row) => row,
        Kind::XenIret => 0,
    }
}

/// Where functions begin: what kallsyms lists in code.
fn functions(image: &Image) -> Result<Vec<u64>> {
    let Some(symbols) = image.symbols()? else { return Ok(Vec::new()) };
    let code: Vec<(u64, u64)> = image
        .sections()
        .iter()
        .filter(|section| section.executable && section.allocated)
        .map(|section| (section.address, section.end()))
        .collect();
    let in_code = |address: u64| code.iter().any(|&(start, end)| (start..end).contains(&address));
    let mut functions: Vec<u64> = symbols.iter().map(|(address, ..)| address).filter(|&a| in_code(a)).collect();
    functions.sort_unstable();
    functions.dedup();
    Ok(functions)
}
