//! `pvops._core.Report` and its modules.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyCapsule};

use crate::error::Result;
use crate::image;
use crate::insn;
use crate::memory::LoadedModule;
use crate::plan::ALL_PASSES;
use crate::python::arrow::{self, Column};
use crate::python::image::namer;
use crate::verify::{self as core, Unknown};

/// What was found in memory.
#[pyclass(frozen, module = "pvops._core")]
pub struct Report {
    pub(super) report: Arc<core::Report>,
    /// What was being written when memory was taken, and is judged as it will be.
    pub(super) poked: Vec<u64>,
    /// The modules that are loaded, or why they could not be listed.
    pub(super) loaded: std::result::Result<Vec<LoadedModule>, String>,
    pub(super) modules: Vec<core::Module>,
    pub(super) kernel: Arc<image::Image>,
}

/// A judged module.
#[pyclass(frozen, module = "pvops._core")]
pub struct Module {
    module: core::Module,
    kernel: Arc<image::Image>,
}

/// Addresses, lengths and tables of stretches, and the names of the tables.
type Spans<'py> = (Bound<'py, PyBytes>, Bound<'py, PyBytes>, Bound<'py, PyBytes>, Vec<&'static str>);

/// (address, expected, found, wrong bytes, (site address, expected, found), pass, what others wrote, nearest form,
/// suspects).
type Run<'py> = (
    u64,
    Bound<'py, PyBytes>,
    Bound<'py, PyBytes>,
    u32,
    (u64, Bound<'py, PyBytes>, Bound<'py, PyBytes>),
    Option<&'static str>,
    Option<Owned<'py>>,
    Option<String>,
    Vec<u64>,
);

/// (address, bytes, who writes such, where they branch to).
type Owned<'py> = (u64, Bound<'py, PyBytes>, Vec<&'static str>, Option<u64>);

/// (name, run-time address of its code, bytes of it, bytes of all that stays loaded, whether it is up).
type Loaded = (String, u64, u64, u64, bool);

/// (what about, which one, its value, sites for it, sites against it, whether the user said so).
type Vote = (&'static str, u64, u64, u32, u32, bool);

/// Runs that nothing accounts for, by address.
fn runs<'py>(py: Python<'py>, report: &core::Report) -> Vec<Run<'py>> {
    let bytes = |bytes: &[u8]| PyBytes::new(py, bytes);
    let run = |s: &core::Unexplained| {
        let site = (s.site.0, bytes(&s.site.1), bytes(&s.site.2));
        let pass = s.pass.map(|pass| pass.name());
        let names = |owned: &core::Owned| owned.owners.iter().map(|owner| owner.name()).collect();
        let owned = s.owned.as_ref().map(|owned| (owned.address, bytes(&owned.bytes), names(owned), owned.target));
        let (expected, found) = (bytes(&s.expected), bytes(&s.found));
        (s.address, expected, found, s.wrong, site, pass, owned, s.nearest.clone(), s.suspects.clone())
    };
    report.unexplained.iter().map(run).collect()
}

fn votes(report: &core::Report, asked: impl Fn(&str) -> bool) -> Vec<Vote> {
    let vote = |vote: &core::Vote| {
        let (about, which) = match vote.about {
            Unknown::Nops => ("nops", 0),
            Unknown::Processors => ("uniprocessor", 0),
            Unknown::Sealed => ("sealed", 0),
            Unknown::Untraced => ("untraced", 0),
            Unknown::Xen => ("xen", 0),
            Unknown::HvmCall => ("hvm_call", 0),
            Unknown::HidBpf => ("hid_bpf", 0),
            Unknown::Cfi => ("cfi", 0),
            Unknown::Seed => ("cfi_seed", 0),
            Unknown::Branches => ("branches", 0),
            Unknown::Returns => ("return_thunk", 0),
            Unknown::CallsStay => ("calls_stay", 0),
            Unknown::Inlines => ("inlines", 0),
            Unknown::Page(page) => ("its_page", page.into()),
            Unknown::Constant(table) => ("constant", table.into()),
            Unknown::Slot(address) => ("slot", address),
            Unknown::Call(key) => ("static_call", key),
            Unknown::Key(key) => ("key", key),
            Unknown::Feature(number) => ("feature", number.into()),
        };
        (about, which, vote.value, vote.votes, vote.against, vote.known)
    };
    report.votes.iter().map(vote).filter(|vote| asked(vote.0)).collect()
}

fn explained(report: &core::Report) -> Vec<(&'static str, u64)> {
    report.explained.iter().map(|part| (part.pass.name(), part.bytes)).collect()
}

/// (address, what the file has, what memory has).
pub(super) type Changed<'py> = (u64, Bound<'py, PyBytes>, Bound<'py, PyBytes>);

/// Where constants differ from the file.
pub(super) fn changed<'py, 'a>(
    py: Python<'py>,
    runs: impl IntoIterator<Item = &'a core::Changed>,
) -> Vec<Changed<'py>> {
    let of = |run: &core::Changed| (run.address, PyBytes::new(py, &run.expected), PyBytes::new(py, &run.found));
    runs.into_iter().map(of).collect()
}

fn unread(report: &core::Report) -> Vec<(u64, u64)> {
    report.unread.iter().map(|gap| (gap.start, gap.end)).collect()
}

#[pymethods]
impl Module {
    #[getter]
    fn name(&self) -> &str {
        &self.module.name
    }

    #[getter]
    fn file(&self) -> &str {
        self.module.image.name()
    }

    #[getter]
    fn address(&self) -> u64 {
        self.module.report.address
    }

    #[getter]
    fn size(&self) -> u64 {
        self.module.report.size
    }

    /// Bytes of fields that refer to what was freed.
    #[getter]
    fn unknown(&self) -> u64 {
        self.module.unknown
    }

    /// (table, bytes) that each pass accounts for.
    #[getter]
    fn explained(&self) -> Vec<(&'static str, u64)> {
        explained(&self.module.report)
    }

    #[getter]
    fn unread(&self) -> Vec<(u64, u64)> {
        unread(&self.module.report)
    }

    /// Runs that nothing accounts for, by address.
    fn unexplained<'py>(&self, py: Python<'py>) -> Vec<Run<'py>> {
        runs(py, &self.module.report)
    }

    /// Its constants: how many bytes were held to the file, and what could not be read.
    #[getter]
    fn constants(&self) -> (u64, Vec<(u64, u64)>) {
        let constants = &self.module.constants;
        (constants.size, constants.unread.iter().map(|gap| (gap.start, gap.end)).collect())
    }

    /// (address, what the file has, what memory has) where its constants differ.
    fn changed<'py>(&self, py: Python<'py>) -> Vec<Changed<'py>> {
        changed(py, &self.module.constants.changed)
    }

    /// How the state of what is the module's own was found.
    fn votes(&self) -> Vec<Vote> {
        votes(&self.module.report, |_| true)
    }

    /// The symbol that an address belongs to, of the module or of the kernel, and the offset into it.
    fn place(&self, address: u64) -> PyResult<Option<(String, u64)>> {
        Ok(self.namer()?(address))
    }

    /// Code as text, with the names of the module and of the kernel.
    fn disassemble(&self, address: u64, code: &[u8]) -> PyResult<Vec<String>> {
        let name = self.namer()?;
        let lines = insn::disassemble(self.kernel.bits(), address, code, &name);
        Ok(lines.into_iter().map(|line| line.text).collect())
    }
}

impl Module {
    /// Names addresses: within the kernel's image by its symbols, elsewhere by the module's.
    fn namer(&self) -> Result<impl Fn(u64) -> Option<(String, u64)> + '_> {
        let (kernel, module) = (namer(&self.kernel)?, namer(&self.module.image)?);
        let (low, high) = self.kernel.bounds();
        Ok(move |address| if (low..high).contains(&address) { kernel(address) } else { module(address) })
    }
}

#[pymethods]
impl Report {
    #[getter]
    fn address(&self) -> u64 {
        self.report.address
    }

    #[getter]
    fn size(&self) -> u64 {
        self.report.size
    }

    /// (table, bytes) that each pass accounts for.
    #[getter]
    fn explained(&self) -> Vec<(&'static str, u64)> {
        explained(&self.report)
    }

    #[getter]
    fn unread(&self) -> Vec<(u64, u64)> {
        unread(&self.report)
    }

    /// Where text was being written when memory was taken; it is judged as it will be.
    #[getter]
    fn poked(&self) -> Vec<u64> {
        self.poked.clone()
    }

    /// The backends that fit; several, where the text cannot tell them apart.
    #[getter]
    fn backends(&self) -> Vec<String> {
        self.report.backends.clone()
    }

    /// Runs that nothing accounts for, by address.
    fn unexplained<'py>(&self, py: Python<'py>) -> Vec<Run<'py>> {
        runs(py, &self.report)
    }

    /// How the state was found; with `about` only what is about one of these.
    #[pyo3(signature = (about = None))]
    fn votes(&self, about: Option<Vec<String>>) -> Vec<Vote> {
        votes(&self.report, |kind| about.as_ref().is_none_or(|about| about.iter().any(|one| one == kind)))
    }

    /// The modules that are loaded, the newest first. None where the list could not be read.
    #[getter]
    fn loaded(&self) -> Option<Vec<Loaded>> {
        let loaded = self.loaded.as_ref().ok()?.iter();
        Some(loaded.map(|m| (m.name.clone(), m.text.0, m.text.1, m.size, m.live)).collect())
    }

    /// Why the list of modules could not be read.
    #[getter]
    fn not_listed(&self) -> Option<&str> {
        self.loaded.as_ref().err().map(String::as_str)
    }

    /// The modules that were judged, the oldest first.
    fn modules(&self) -> Vec<Module> {
        let module = |module: &core::Module| Module { module: module.clone(), kernel: Arc::clone(&self.kernel) };
        self.modules.iter().map(module).collect()
    }

    /// The stretches that passes changed, as columns: their addresses, lengths and tables (8, 4 and 1 bytes each, the last
    /// a number in the list of names).
    fn spans<'py>(&self, py: Python<'py>) -> Spans<'py> {
        let spans = &self.report.spans;
        let addresses: Vec<u8> = spans.iter().flat_map(|&(address, ..)| address.to_ne_bytes()).collect();
        let lengths: Vec<u8> = spans.iter().flat_map(|&(_, len, _)| len.to_ne_bytes()).collect();
        let tables: Vec<u8> = spans.iter().map(|&(.., pass)| pass as u8).collect();
        let names = ALL_PASSES.iter().map(|pass| pass.name()).collect();
        (PyBytes::new(py, &addresses), PyBytes::new(py, &lengths), PyBytes::new(py, &tables), names)
    }

    /// The same as Arrow's C stream interface has it.
    fn spans_arrow<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        let (spans, n) = (&self.report.spans, self.report.spans.len());
        let columns = vec![
            Column::u64("address", n, spans.iter().map(|span| span.0).collect::<Vec<_>>()),
            Column::u32("length", n, spans.iter().map(|span| span.1).collect::<Vec<_>>()),
            Column::u8("table", n, spans.iter().map(|span| span.2 as u8).collect::<Vec<_>>())
                .numbering(ALL_PASSES.iter().map(|pass| pass.name())),
        ];
        arrow::stream(py, columns)
    }

    /// The votes as Arrow's C stream interface has them.
    fn votes_arrow<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        let votes = votes(&self.report, |_| true);
        let n = votes.len();
        let columns = vec![
            Column::words("about", votes.iter().map(|vote| vote.0)),
            Column::u64("which", n, votes.iter().map(|vote| vote.1).collect::<Vec<_>>()),
            Column::u64("value", n, votes.iter().map(|vote| vote.2).collect::<Vec<_>>()),
            Column::u32("votes", n, votes.iter().map(|vote| vote.3).collect::<Vec<_>>()),
            Column::u32("against", n, votes.iter().map(|vote| vote.4).collect::<Vec<_>>()),
            Column::u8("given", n, votes.iter().map(|vote| u8::from(vote.5)).collect::<Vec<_>>()),
        ];
        arrow::stream(py, columns)
    }

    #[getter]
    fn features(&self) -> Vec<u32> {
        self.report.state.features.clone()
    }

    #[getter]
    fn branches(&self) -> &'static str {
        self.report.state.branches.name()
    }

    #[getter]
    fn nops(&self) -> &'static str {
        self.report.state.nops.name
    }

    #[getter]
    fn return_thunk(&self) -> Option<u64> {
        self.report.state.return_thunk
    }

    #[getter]
    fn uniprocessor(&self) -> bool {
        self.report.state.uniprocessor
    }

    #[getter]
    fn xen(&self) -> bool {
        self.report.state.xen
    }

    /// Keys of the static calls that were updated to nothing before a return thunk was chosen.
    #[getter]
    fn early_calls(&self) -> Vec<u64> {
        self.report.early_calls.clone()
    }

    /// Pages of ITS thunks, in the order they were allocated.
    #[getter]
    fn its_pages(&self) -> Vec<u64> {
        self.report.state.pages.clone()
    }
}
