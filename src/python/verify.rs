//! `pvops._core.verify` and what it takes and gives.

use std::collections::HashMap;
use std::sync::Arc;

use pyo3::prelude::*;

use crate::error::Result;
use crate::guard::guarded;
use crate::image;
use crate::insn::NopTable;
use crate::memory::{self, Memory as Dump};
use crate::python::boot::{Tables, rules};
use crate::python::image::Image;
use crate::python::memory::Location;
use crate::python::report::Report;
use crate::verify as core;

/// What the image and its era say, in numbers and addresses.
#[pyclass(frozen, module = "pvops._core")]
pub struct KernelInfo(pub(super) core::KernelInfo);

/// What a patch function does with an op: (code or None, the function it must hold or None, whether its sites jump).
type Inlined = (Option<Vec<u8>>, Option<u64>, bool);

/// A backend: (name, slot address → what it may hold, key of a static call → where it may go, a feature without which it
/// is not this one, the key of a static call that may go to a page outside).
type PossibleBackend = (String, HashMap<u64, Vec<u64>>, HashMap<u64, Vec<u64>>, Option<u16>, Option<u64>);

#[pymethods]
impl KernelInfo {
    /// `numbers` are those of retpoline, retpoline_lfence, rethunk, its, call_depth and xenpv; `nops` the tables the kernel
    /// chooses from; `inlined` and `places` (of the slots, where they are no one array) are by
    /// op type; `identities` are functions by bits; `backends` are as [`PossibleBackend`] says.
    #[new]
    #[pyo3(signature = (numbers, nops, *, inlined = Vec::new(), nop = None, identities = HashMap::new(),
                        bug = None, call_clobbers = None, places = Vec::new(), backends = Vec::new()))]
    #[expect(clippy::too_many_arguments, reason = "keywords in Python, each named")]
    fn new(
        numbers: HashMap<String, u16>,
        nops: Vec<String>,
        inlined: Vec<Inlined>,
        nop: Option<u64>,
        identities: HashMap<u64, u8>,
        bug: Option<u64>,
        call_clobbers: Option<u16>,
        places: Vec<u64>,
        backends: Vec<PossibleBackend>,
    ) -> PyResult<KernelInfo> {
        let number = |name: &str| numbers.get(name).copied();
        let numbers = core::FeatureNumbers {
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
        let mut identities: Vec<_> = identities.into_iter().collect();
        identities.sort_unstable();
        let ops = core::Ops { inlined: inlined.collect(), nop, identities, bug, call_clobbers, places };
        let backend =
            |(name, slots, calls, requires, page)| core::PossibleBackend { name, slots, calls, requires, page };
        let backends = backends.into_iter().map(backend).collect();
        let nops = nops.iter().map(|name| NopTable::by_name(name)).collect::<Result<_>>()?;
        Ok(KernelInfo(core::KernelInfo { numbers, ops, backends, nops }))
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
                        constants = HashMap::new(), backend = None))]
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
        backend: Option<String>,
    ) -> PyResult<Known> {
        let nops = nops.map(NopTable::by_name).transpose()?;
        Ok(Known(core::Known { nops, uniprocessor, features, return_thunk, slots, keys, calls, constants, backend }))
    }
}

/// Judges what memory holds of an image's `.text`, and of modules. Modules are listed whether any is given or not; where
/// one is given, a list that cannot be read is an error.
#[pyfunction]
#[pyo3(signature = (tables, era, info, known, found, modules = Vec::new()))]
pub fn verify(
    py: Python<'_>,
    tables: &Tables,
    era: &Bound<'_, PyAny>,
    info: &KernelInfo,
    known: &Known,
    found: &Location,
    modules: Vec<PyRef<'_, Image>>,
) -> PyResult<Report> {
    let rules = rules(era)?;
    let given: Vec<Arc<image::Image>> = modules.iter().map(|module| Arc::clone(&module.0)).collect();
    let text = found.guarded(py, |memory, found, image| guarded(|| core::text(memory, found, image)))?;
    let listed = |memory: &Dump, found: &memory::Location, image: &image::Image| {
        let list = core::Modules::read(memory, found, image);
        let linked = match &list {
            Ok(list) => list.link(&given, memory, found, image)?,
            Err(error) if !given.is_empty() => return Err(error.clone()),
            Err(_) => Vec::new(),
        };
        Ok((list, linked))
    };
    let (list, linked) = found.guarded(py, |memory, found, image| guarded(|| listed(memory, found, image)))?;
    let judged = || -> Result<_> {
        let code = core::code(&tables.image, found.found.slide)?;
        let verifier = core::Verifier::new(&tables.image, &tables.tables, &rules, info.0.clone(), code)?;
        let view = core::View::new(verifier.text(), &text.bytes, &text.unread)?;
        let report = verifier.verify(&view, &known.0);
        let modules = verifier.modules(&tables.image, &report.state, &linked)?;
        Ok((report, modules))
    };
    let (report, modules) = py.detach(|| guarded(judged))?;
    let loaded = list.map(|list| list.loaded).map_err(|error| error.to_string());
    Ok(Report { report, loaded, modules, kernel: Arc::clone(&tables.image) })
}
