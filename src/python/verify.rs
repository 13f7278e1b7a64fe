//! `pvops._core.verify` and what it takes and gives.

use std::collections::HashMap;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error::Result;
use crate::insn::NopTable;
use crate::python::boot::{Tables, rules};
use crate::python::memory::Found;
use crate::verify::{self as core, Unknown};

/// What the names of an image mean to the verifier.
#[pyclass(frozen, module = "pvops._core")]
pub struct Brief(core::Brief);

/// What a patch function does with an op: (code or None, the function it must hold or None, whether its sites jump).
type Inlined = (Option<Vec<u8>>, Option<u64>, bool);

#[pymethods]
impl Brief {
    /// `numbers` are those of retpoline, retpoline_lfence, rethunk, its, call_depth and xenpv; `nops` the tables the kernel
    /// chooses from; `inlined` is by op type; `backends` are (name, slot address → what it may hold).
    #[new]
    #[pyo3(signature = (numbers, nops, *, inlined = Vec::new(), nop = None, identity = None, bug = None,
                        backends = Vec::new()))]
    fn new(
        numbers: HashMap<String, u16>,
        nops: Vec<String>,
        inlined: Vec<Inlined>,
        nop: Option<u64>,
        identity: Option<u64>,
        bug: Option<u64>,
        backends: Vec<(String, HashMap<u64, Vec<u64>>)>,
    ) -> PyResult<Brief> {
        let number = |name: &str| numbers.get(name).copied();
        let numbers = core::Numbers {
            retpoline: number("retpoline"),
            retpoline_lfence: number("retpoline_lfence"),
            rethunk: number("rethunk"),
            its: number("its"),
            call_depth: number("call_depth"),
            xenpv: number("xenpv"),
        };
        let inlined = inlined.into_iter().map(|(code, only_while, jump)| core::Inlined {
            code: code.map(Vec::into_boxed_slice),
            only_while,
            jump,
        });
        let ops = core::Ops { inlined: inlined.collect(), nop, identity, bug };
        let backends = backends.into_iter().map(|(name, slots)| core::Backend { name, slots }).collect();
        let nops = nops.iter().map(|name| NopTable::by_name(name)).collect::<Result<_>>()?;
        Ok(Brief(core::Brief { numbers, ops, backends, nops }))
    }
}

/// What the user knows of the machine.
#[pyclass(frozen, module = "pvops._core")]
pub struct Known(core::Known);

#[pymethods]
impl Known {
    #[new]
    #[pyo3(signature = (*, nops = None, uniprocessor = None, features = HashMap::new(), return_thunk = None,
                        slots = HashMap::new(), keys = HashMap::new(), calls = HashMap::new(),
                        constants = HashMap::new()))]
    #[expect(clippy::too_many_arguments, reason = "keywords in Python, each named")]
    fn new(
        nops: Option<&str>,
        uniprocessor: Option<bool>,
        features: HashMap<u16, bool>,
        return_thunk: Option<u64>,
        slots: HashMap<u64, u64>,
        keys: HashMap<u64, bool>,
        calls: HashMap<u64, u64>,
        constants: HashMap<String, u64>,
    ) -> PyResult<Known> {
        let nops = nops.map(NopTable::by_name).transpose()?;
        Ok(Known(core::Known { nops, uniprocessor, features, return_thunk, slots, keys, calls, constants }))
    }
}

/// What was found in memory.
#[pyclass(frozen, module = "pvops._core")]
pub struct Report(core::Report);

/// (address, expected, found, wrong bytes, (site address, expected, found), pass, owner, nearest form).
type Run<'py> = (
    u64,
    Bound<'py, PyBytes>,
    Bound<'py, PyBytes>,
    u32,
    (u64, Bound<'py, PyBytes>, Bound<'py, PyBytes>),
    Option<&'static str>,
    Option<&'static str>,
    Option<String>,
);

/// (what about, which one, its value, sites for it, sites against it, whether the user said so).
type Vote = (&'static str, u64, u64, u32, u32, bool);

/// Judges what memory holds of an image's `.text`.
#[pyfunction]
pub fn verify(
    py: Python<'_>,
    tables: &Tables,
    era: &str,
    brief: &Brief,
    known: &Known,
    found: &Found,
) -> PyResult<Report> {
    let rules = rules(era)?;
    let text = found.guarded(py, core::text)?;
    let report = py.detach(|| -> Result<_> {
        let code = core::code(&tables.image, found.found.slide)?;
        let verifier = core::Verifier::new(&tables.image, &tables.tables, rules, brief.0.clone(), code)?;
        let view = core::View::new(verifier.text(), &text.bytes, &text.unread)?;
        Ok(verifier.verify(&view, &known.0))
    })?;
    Ok(Report(report))
}

#[pymethods]
impl Report {
    #[getter]
    fn address(&self) -> u64 {
        self.0.address
    }

    #[getter]
    fn size(&self) -> u64 {
        self.0.size
    }

    /// (table, bytes) that each pass accounts for.
    #[getter]
    fn explained(&self) -> Vec<(&'static str, u64)> {
        self.0.explained.iter().map(|part| (part.pass.name(), part.bytes)).collect()
    }

    #[getter]
    fn unread(&self) -> Vec<(u64, u64)> {
        self.0.unread.iter().map(|gap| (gap.start, gap.end)).collect()
    }

    #[getter]
    fn backend(&self) -> &str {
        &self.0.backend
    }

    /// Runs that nothing accounts for, by address.
    fn unexplained<'py>(&self, py: Python<'py>) -> Vec<Run<'py>> {
        let bytes = |bytes: &[u8]| PyBytes::new(py, bytes);
        let run = |s: &core::Unexplained| {
            let site = (s.site.0, bytes(&s.site.1), bytes(&s.site.2));
            let pass = s.pass.map(|pass| pass.name());
            let owner = s.owner.map(|owner| owner.name());
            (s.address, bytes(&s.expected), bytes(&s.found), s.wrong, site, pass, owner, s.nearest.clone())
        };
        self.0.unexplained.iter().map(run).collect()
    }

    /// How the state was found.
    fn votes(&self) -> Vec<Vote> {
        let vote = |vote: &core::Vote| {
            let (about, which) = match vote.about {
                Unknown::Nops => ("nops", 0),
                Unknown::Processors => ("uniprocessor", 0),
                Unknown::Sealed => ("sealed", 0),
                Unknown::Untraced => ("untraced", 0),
                Unknown::Xen => ("xen", 0),
                Unknown::Branches => ("branches", 0),
                Unknown::Returns => ("return_thunk", 0),
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
        self.0.votes.iter().map(vote).collect()
    }

    /// The stretches that passes changed: (address, length, table).
    fn spans(&self) -> Vec<(u64, u32, &'static str)> {
        self.0.spans.iter().map(|&(address, len, pass)| (address, len, pass.name())).collect()
    }

    #[getter]
    fn features(&self) -> Vec<u32> {
        self.0.state.features.clone()
    }

    #[getter]
    fn branches(&self) -> &'static str {
        self.0.state.branches.name()
    }

    #[getter]
    fn nops(&self) -> &'static str {
        self.0.state.nops.name
    }

    #[getter]
    fn return_thunk(&self) -> Option<u64> {
        self.0.state.return_thunk
    }

    #[getter]
    fn uniprocessor(&self) -> bool {
        self.0.state.uniprocessor
    }

    #[getter]
    fn xen(&self) -> bool {
        self.0.state.xen
    }

    /// Keys of the static calls that were updated to nothing before a return thunk was chosen.
    #[getter]
    fn early_calls(&self) -> Vec<u64> {
        self.0.early_calls.clone()
    }

    /// Pages of ITS thunks, in the order they were allocated.
    #[getter]
    fn its_pages(&self) -> Vec<u64> {
        self.0.state.pages.clone()
    }
}
