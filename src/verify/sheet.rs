//! All sites of an image, cut into clusters: stretches of code that no site crosses the ends of.
//!
//! A cluster is explained by itself. Where two tables name one place (an op's call that is an alternative too) they are in
//! one cluster, and its form is what the passes make of it one after the other.

use std::collections::HashMap;

use super::counted::{Counting, MAX_TEMPLATE};
use super::form::{PASSES, number};
use super::state::{Backend, Numbers};
use super::thunks::Thunks;
use crate::error::{Error, Result};
use crate::image::{Bits, Image};
use crate::insn::{self, CALL, JMP, NopTable};
use crate::plan::alternatives::Nest;
use crate::plan::{Landmarks, Memory, Pass, Rules, Stage};
use crate::sites::Tables;

const THUNK_SIZE: u64 = 32;
/// Forms are made in a buffer of this size; no real cluster comes near.
const LONGEST: u64 = 1 << 16;
/// Stubs of Xen's hypercall page, and their size.
pub(super) const STUBS: u32 = 128;
pub(super) const STUB: u64 = 32;

/// What ftrace calls at the head of a function.
const TRACERS: [&str; 2] = ["ftrace_caller", "ftrace_regs_caller"];
/// Where those call the tracer, or jump to it: `ftrace_update_ftrace_func()`, `ftrace_enable_ftrace_graph_caller()` of
/// `arch/x86/kernel/ftrace.c`.
const TRACER_CALLS: [&str; 3] = ["ftrace_call", "ftrace_regs_call", "ftrace_graph_call"];

/// What a site is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Paravirt {
        row: u32,
        slot: u16,
    },
    /// Rows that follow each other at one site.
    Alternatives {
        first: u32,
        count: u16,
    },
    Retpoline(u32),
    Return(u32),
    Endbr(u32),
    Lock(u32),
    Mcount(u32),
    Jump {
        row: u32,
        key: u16,
    },
    Call {
        row: u32,
        key: u16,
    },
    Trampoline {
        row: u32,
        key: Option<u16>,
    },
    Constant {
        row: u32,
        table: u16,
    },
    XenIret,
    XenStub(u32),
}

/// A site, or one of the times a pass comes to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    pub address: u64,
    pub len: u8,
    /// The stage of the boot, by its place in the era's order.
    pub stage: u8,
    pub what: What,
}

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

/// A branch to a thunk, as built.
#[derive(Debug, Clone, Copy)]
pub(super) struct Branch {
    pub len: u8,
    /// `CALL`, `JMP`, or the second byte of `jcc rel32`.
    pub opcode: u8,
    pub conditional: bool,
    pub register: u8,
}

/// What a patch function does with an op's type.
#[derive(Debug, Clone, Default)]
pub struct Inlined {
    /// The code it copies; none, where it leaves the type to the default rules.
    pub code: Option<Box<[u8]>>,
    /// Copied only while the slot holds this function.
    pub only_while: Option<u64>,
    /// Sites of this op jump.
    pub jump: bool,
}

/// What the era's `.parainstructions` pass does, as far as the tables do not tell.
#[derive(Debug, Clone, Default)]
pub struct Ops {
    /// By op type.
    pub inlined: Vec<Inlined>,
    /// The function that counts as nothing to do.
    pub nop: Option<u64>,
    /// The function that returns its argument.
    pub identity: Option<u64>,
    /// What a NULL op becomes a call to; `ud2` where there is none.
    pub bug: Option<u64>,
}

/// What the image and its era say, with the names that only Python knows.
#[derive(Debug, Clone, Default)]
pub struct Brief {
    /// The features other tables hang on.
    pub numbers: Numbers,
    /// `.parainstructions`.
    pub ops: Ops,
    /// What may fill the ops.
    pub backends: Vec<Backend>,
    /// The nop tables this era chooses from; the first is what it takes where nothing tells.
    pub nops: Vec<&'static NopTable>,
}

/// Where a slot lies, and what it holds as built.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub address: u64,
    pub built: u64,
    /// Its op type, where `.parainstructions` names it.
    pub op: Option<u8>,
}

/// Every site of an image.
pub(super) struct Sheet<'a> {
    pub tables: &'a Tables,
    pub rules: &'a Rules,
    pub brief: Brief,
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
    /// Functions that BPF attaches to: where they begin and end.
    pub bpf: Vec<(u64, u64)>,
    pub thunks: Thunks,
    pub counting: Counting,
    order: Vec<Stage>,
}

/// Numbers things in the order they are met.
struct Index<T> {
    by: HashMap<u64, u16>,
    list: Vec<T>,
}

impl<T> Index<T> {
    fn new() -> Index<T> {
        Index { by: HashMap::new(), list: Vec::new() }
    }

    fn of(&mut self, address: u64, make: impl FnOnce() -> T) -> Result<u16> {
        if let Some(&at) = self.by.get(&address) {
            return Ok(at);
        }
        let at = u16::try_from(self.list.len()).map_err(|_| Error::table("more than 65535 keys or slots"))?;
        self.by.insert(address, at);
        self.list.push(make());
        Ok(at)
    }
}

impl<'a> Sheet<'a> {
    pub fn new(image: &Image, tables: &'a Tables, rules: &'a Rules, brief: Brief, code: Memory) -> Result<Sheet<'a>> {
        let section = image.section(".text").ok_or_else(|| Error::image("no section .text"))?;
        let size = image.section_bytes(section).len();
        if code.from(section.address).len() < size {
            return Err(Error::image("section .text is not code").in_section(".text"));
        }
        let text = (section.address, section.address + size as u64);
        let mut sheet = Sheet {
            tables,
            rules,
            brief,
            marks: Landmarks::of(image)?,
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
            functions: functions(image)?,
            tracers: Vec::new(),
            tracer_calls: Vec::new(),
            bpf: Vec::new(),
            thunks: Thunks::default(),
            counting: Counting::default(),
            order: rules.order.to_vec(),
        };
        sheet.counting.template = sheet.template(image);
        sheet.name_others(image)?;
        sheet.collect(image)?;
        sheet.cut()?;
        Ok(sheet)
    }

    pub fn stage(&self, stage: Stage) -> Option<u8> {
        self.order.iter().position(|&s| s == stage).map(|at| at as u8)
    }

    fn add(&mut self, stage: Stage, address: u64, len: u8, what: What) {
        if let Some(stage) = self.stage(stage) {
            self.pieces.push(Piece { address, len, stage, what });
        }
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
        for (start, _, _) in symbols.iter().filter(|(.., name)| name.starts_with("bpf_dispatcher_")) {
            let after = self.functions.partition_point(|&function| function <= start);
            self.bpf.push((start, self.functions.get(after).copied().unwrap_or(start)));
        }
        Ok(())
    }

    fn collect(&mut self, image: &Image) -> Result<()> {
        let tables = self.tables;
        let word = |address: u64| image.read_word(address).unwrap_or(0);
        let mut slots = Index::new();
        if let Some(table) = &tables.paravirt {
            let base = table.ops_address(self.bits)?;
            for (row, site) in (0..).zip(&table.sites) {
                let address = base.wrapping_add(self.bits.word() as u64 * u64::from(site.op_type));
                let made = || Slot { address, built: word(address), op: Some(site.op_type) };
                let slot = slots.of(address, made)?;
                self.add(Stage::Paravirt, site.address, site.len, What::Paravirt { row, slot });
            }
        }
        if let Some(table) = &tables.alternatives {
            self.row_slots = vec![None; table.rows.len()];
            for (row, alternative) in table.rows.iter().enumerate().filter(|(_, row)| row.direct_call) {
                let site = self.code.from(alternative.address);
                if let [0xff, 0x15, a, b, c, d, ..] = *site {
                    let displacement = i32::from_le_bytes([a, b, c, d]);
                    let address = match self.bits {
                        Bits::B64 => alternative.address.wrapping_add(6).wrapping_add(displacement as u64),
                        Bits::B32 => u64::from(displacement as u32),
                    };
                    let slot = slots.of(address, || Slot { address, built: word(address), op: None })?;
                    self.row_slots[row] = Some(slot);
                }
            }
            let mut first = 0;
            while first < table.rows.len() {
                let here = table.rows[first];
                let count = match self.rules.alternatives.nest {
                    Nest::Each => 1,
                    _ => table.rows[first..].iter().take_while(|row| row.address == here.address).count(),
                };
                let len = table.rows[first..first + count].iter().map(|row| row.len).max().unwrap_or(0);
                let what = What::Alternatives { first: first as u32, count: count.min(usize::from(u16::MAX)) as u16 };
                self.add(Stage::Alternatives, here.address, len, what);
                first += count;
            }
        }
        self.slots = slots.list;
        for (row, address) in tables.retpolines.rows() {
            let branch = self.branch(address);
            self.branches.resize(row as usize, None);
            self.branches.push(branch);
            if let Some(branch) = branch {
                self.add(Stage::Retpolines, address, branch.len, What::Retpoline(row));
            }
        }
        for (row, address) in tables.returns.rows() {
            self.add(Stage::Returns, address, 5, What::Return(row));
        }
        for (row, address) in tables.ibt.rows() {
            self.add(Stage::Ibt, address, 4, What::Endbr(row));
        }
        for (row, address) in tables.smp_locks.rows() {
            self.add(Stage::SmpLocks, address, 1, What::Lock(row));
        }
        for (row, &address) in (0..).zip(&tables.mcount) {
            self.add(Stage::Ftrace, address, 5, What::Mcount(row));
        }
        let mut keys = Index::new();
        for (row, label) in (0..).zip(&tables.jump_labels) {
            let on = || image.read(label.key, 4).is_some_and(|count| count.iter().any(|&b| b != 0));
            let key = keys.of(label.key, || (label.key, on()))?;
            self.add(Stage::Updates, label.address, label.len, What::Jump { row, key });
        }
        self.keys = keys.list;
        let mut calls = Index::new();
        for (row, site) in (0..).zip(&tables.static_calls) {
            let key = calls.of(site.key, || (site.key, word(site.key)))?;
            let len = if self.code.from(site.address).first() == Some(&0x0f) { 6 } else { 5 };
            for stage in [Stage::StaticCalls, Stage::StaticCallsAgain, Stage::Updates] {
                self.add(stage, site.address, len, What::Call { row, key });
            }
        }
        for (row, trampoline) in (0..).zip(&tables.trampolines) {
            let key = match trampoline.key {
                Some(key) => Some(calls.of(key, || (key, word(key)))?),
                // kallsyms without data: the trampoline is a key of its own, which jumps where it was linked to.
                None => {
                    let linked = match *self.code.from(trampoline.address) {
                        [JMP, a, b, c, d, ..] => self.code.target(trampoline.address, 5, &[a, b, c, d]),
                        _ => 0,
                    };
                    Some(calls.of(trampoline.address, || (trampoline.address, linked))?)
                }
            };
            self.add(Stage::Updates, trampoline.address, 5, What::Trampoline { row, key });
        }
        self.calls = calls.list;
        for (table, constant) in (0..).zip(&tables.constants) {
            for (row, address) in constant.table.rows() {
                self.add(Stage::Constants, address, constant.width, What::Constant { row, table });
            }
        }
        if self.bits == Bits::B64 {
            if let Some((site, _)) = self.marks.xen_iret {
                self.add(Stage::Unlisted, site, 5, What::XenIret);
            }
            if let Some(page) = self.marks.hypercall_page {
                for number in 0..STUBS {
                    let stub = page.wrapping_add(STUB * u64::from(number));
                    self.add(Stage::Unlisted, stub, 14, What::XenStub(number));
                }
            }
        }
        Ok(())
    }

    /// The branch to a thunk at a site; `None` where the kernel would warn and go on.
    fn branch(&self, address: u64) -> Option<Branch> {
        let code = self.code.from(address);
        let step = insn::step(self.bits, code)?;
        let (opcode, conditional) = match step.opcode {
            [opcode @ (CALL | JMP), _] => (opcode, false),
            [0x0f, opcode @ 0x80..=0x8f] => (opcode, true),
            _ => return None,
        };
        let ((at, _), array) = (step.branch()?, self.marks.indirect_thunks?);
        let distance = self.code.target(address, step.len, &code[at..step.len]).wrapping_sub(array);
        let register = u8::try_from(distance / THUNK_SIZE).ok().filter(|&r| r < 16 && distance % THUNK_SIZE == 0)?;
        Some(Branch { len: step.len as u8, opcode, conditional, register })
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
                self.pieces[first..last].sort_by_key(|piece| (piece.stage, order(piece.what)));
            }
            if end > self.text.0 && start < self.text.1 {
                let place = self.clusters.len() as u32;
                for piece in &self.pieces[first..last] {
                    let group = self.groups.get_mut(usize::from(number(piece.what.pass())));
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
        self.functions.binary_search(&address).is_ok()
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
fn order(what: What) -> u32 {
    match what {
        What::Paravirt { row, .. }
        | What::Alternatives { first: row, .. }
        | What::Retpoline(row)
        | What::Return(row)
        | What::Endbr(row)
        | What::Lock(row)
        | What::Mcount(row)
        | What::Jump { row, .. }
        | What::Call { row, .. }
        | What::Trampoline { row, .. }
        | What::Constant { row, .. }
        | What::XenStub(row) => row,
        What::XenIret => 0,
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
