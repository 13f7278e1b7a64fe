//! How a [`SiteMap`] is made: of a kernel's image for its [`Verifier`], or of a module in one.

use std::sync::Mutex;

use super::Verifier;
use super::counting::MAX_TEMPLATE;
use super::info::KernelInfo;
use super::site_map::{Cluster, ModuleHost, SiteMap, is_of_hashes};
use super::visit::{Kind, Visit};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::plan::{KernelCode, Landmarks, LoadedCode, Rules};
use crate::sites::{Alternative, Reserved, Tables, by_address};

/// The longest cluster, in bytes; those of real kernels are far shorter.
const LONGEST: u64 = 1 << 16;

/// What ftrace calls at the head of a function; the last where the graph tracer alone is at work (`FTRACE_GRAPH_TRAMP_ADDR`,
/// 79922b8009c0 of 3.16, up to 5.16).
const TRACERS: [&str; 3] = ["ftrace_caller", "ftrace_regs_caller", "ftrace_graph_caller"];
/// The places in these that call the tracer, or jump to it: what `ftrace_update_ftrace_func()` and
/// `ftrace_enable_ftrace_graph_caller()` of arch/x86/kernel/ftrace.c rewrite.
const TRACER_CALLS: [&str; 3] = ["ftrace_call", "ftrace_regs_call", "ftrace_graph_call"];

impl<'a> Verifier<'a> {
    /// Reads the sites of an image. `code` is its code as loaded: relocated by the slide.
    pub fn new(
        image: &Image,
        tables: &'a Tables,
        rules: &'a Rules,
        info: KernelInfo,
        code: KernelCode<'a>,
    ) -> Result<Verifier<'a>> {
        let built = || {
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
            map.preambles.clone_from(&map.reserved.preambles);
            map.end = image.bounds().1;
            map.collect(image, None)?;
            map.cut()?;
            Ok(Verifier { map, clean: Mutex::new(Vec::new()) })
        };
        built().map_err(|error| error.in_file(image.name()))
    }
}

impl<'a> SiteMap<'a> {
    /// The sites of a module. Its code and its tables are linked to the kernel's addresses.
    pub fn of_module(
        image: &Image,
        tables: &'a Tables,
        code: LoadedCode,
        host: ModuleHost<'_, 'a>,
    ) -> Result<SiteMap<'a>> {
        let kernel = host.map;
        // No module has Xen's hypercall page, or early_xen_iret_patch.
        let landmarks =
            Landmarks { text: host.locks, xen_iret: None, hypercall_page: None, ..kernel.landmarks.clone() };
        let mut map = SiteMap::empty(tables, kernel.rules, kernel.info.clone(), landmarks, code, host.text);
        map.late = true;
        map.preamble = kernel.preamble;
        map.functions = functions(image)?;
        map.functions.extend_from_slice(&kernel.functions);
        map.functions.sort_unstable();
        map.functions.dedup();
        map.tracers.clone_from(&kernel.tracers);
        map.reserved = Reserved::read(image)?;
        map.preambles = [&*map.reserved.preambles, &*kernel.preambles].concat();
        map.preambles.sort_unstable();
        map.end = kernel.end;
        map.collect(image, Some(host.image))?;
        map.cut()?;
        Ok(map)
    }

    /// The code that counts a call (`skl_call_thunk_template`), as loaded: its address and its bytes.
    fn template(&self, image: &Image) -> (u64, Vec<u8>) {
        let Some((start, end)) = self.landmarks.call_template else { return (0, Vec::new()) };
        let len = end.wrapping_sub(start).min(MAX_TEMPLATE) as usize;
        let loaded = self.code.from(start).get(..len).or_else(|| image.read(start, len));
        (start, loaded.unwrap_or_default().to_vec())
    }

    fn name_others(&mut self, image: &Image) -> Result<()> {
        let Some(symbols) = image.symbols()? else { return Ok(()) };
        let addresses = |names: &[&str]| names.iter().filter_map(|name| symbols.address_of(name)).collect();
        self.tracers = addresses(&TRACERS);
        self.tracer_calls = addresses(&TRACER_CALLS);
        self.hid_bpf = self.landmarks.hid_bpf.as_ref().map(|held| (held.function, held.list));
        self.bpf_calls = symbols.addresses_starting_with(&["__SCK__bpf_dispatcher_"]).collect();
        for start in symbols.addresses_starting_with(&["bpf_dispatcher_"]) {
            let after = self.functions.partition_point(|&function| function <= start);
            self.bpf.push((start, self.functions.get(after).copied().unwrap_or(start)));
        }
        Ok(())
    }

    /// Sorts visits into clusters.
    fn cut(&mut self) -> Result<()> {
        // Visits of one address stay in the order of their table.
        let addresses: Vec<u64> = self.visits.iter().map(|visit| visit.address).collect();
        self.visits = by_address(&addresses).into_iter().map(|number| self.visits[number as usize]).collect();
        let mut first = 0;
        while first < self.visits.len() {
            let start = self.visits[first].address;
            let mut end = start;
            let mut last = first;
            while let Some(visit) = self.visits.get(last)
                && (last == first || visit.address < end)
            {
                end = end.max(visit.address.saturating_add(visit.len.max(1).into()));
                last += 1;
            }
            if end - start > LONGEST {
                return Err(Error::table(format!("sites overlap each other up to {end:#x}")).at_address(start));
            }
            if last - first > 1 {
                self.visits[first..last].sort_by_key(|visit| (visit.stage, order(visit.kind)));
            }
            if end > self.text.0 && start < self.text.1 {
                let place = self.clusters.len() as u32;
                for visit in &self.visits[first..last] {
                    let group = self.groups.get_mut(visit.kind.pass() as usize);
                    if let Some(group) = group.filter(|group| group.last() != Some(&place)) {
                        group.push(place);
                    }
                }
            }
            let passes = passes(&self.visits[first..last]);
            let (first_u32, count) = (first as u32, (last - first) as u32);
            self.clusters.push(Cluster { start, len: (end - start) as u32, first: first_u32, count, passes });
            first = last;
        }
        let rows = self.tables.alternatives.iter().flat_map(|table| &table.rows);
        let end = |row: &Alternative| row.replacement.saturating_add(row.replacement_len.into());
        self.nested = rows.map(|row| !self.touching(row.replacement, end(row)).is_empty()).collect();
        Ok(())
    }
}

/// How many passes come here, those of hashes aside.
fn passes(visits: &[Visit]) -> u8 {
    if let [alone] = visits {
        return u8::from(!is_of_hashes(alone.kind.pass()));
    }
    let seen = |kind: Kind| visits.iter().map(|visit| visit.kind.pass()).position(|pass| pass == kind.pass());
    let first = |&(at, visit): &(usize, &Visit)| !is_of_hashes(visit.kind.pass()) && seen(visit.kind) == Some(at);
    visits.iter().enumerate().filter(first).take(2).count() as u8
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
    let mut functions: Vec<u64> = symbols.addresses().filter(|&a| in_code(a)).collect();
    functions.sort_unstable();
    functions.dedup();
    Ok(functions)
}
