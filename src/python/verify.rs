//! `pvops._core.verify` and what it takes and gives.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use self_cell::self_cell;

use crate::error::Result;
use crate::image;
use crate::insn::NopTable;
use crate::memory::{self, Memory as Dump};
use crate::plan::Rules;
use crate::python::boot::{Tables, rules};
use crate::python::image::Image;
use crate::python::memory::Location;
use crate::python::report::Report;
use crate::sites;
use crate::verify as core;

/// What the image and its era say, in numbers and addresses.
#[pyclass(frozen, module = "pvops._core")]
pub struct KernelInfo(pub(super) core::KernelInfo);

/// What a patch function does with an op: (code or None, the function it must hold or None, the feature that forbids it or
/// None, whether its sites jump, what guests' patch functions copy).
type Inlined = (Option<Vec<u8>>, Option<u64>, Option<u16>, bool, Vec<Direct>);

/// What a guest's patch function copies: (the function that the slot holds, code, offset and target of a relative call).
type Direct = (u64, Vec<u8>, Option<(usize, u64)>);

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
                        bug = None, call_clobbers = None, places = Vec::new(), may_stay = false, backends = Vec::new()))]
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
        may_stay: bool,
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
        let direct = |(function, code, relocation): Direct| core::Direct { function, code: code.into(), relocation };
        let inlined = inlined.into_iter().map(|(code, only_while, unless, jump, others)| core::Inlined {
            code: code.map(Vec::into_boxed_slice),
            only_while,
            unless,
            jump,
            direct: others.into_iter().map(direct).collect(),
        });
        let mut identities: Vec<_> = identities.into_iter().collect();
        identities.sort_unstable();
        let ops = core::Ops { inlined: inlined.collect(), nop, identities, bug, call_clobbers, places, may_stay };
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

/// What a map of an image's sites is made of.
struct Ingredients {
    image: Arc<image::Image>,
    tables: Arc<sites::Tables>,
    rules: Rules,
}

self_cell!(
    /// The map of an image's sites as they are loaded at some slide.
    struct Held {
        owner: Ingredients,

        #[covariant]
        dependent: Map,
    }
);

type Map<'a> = core::Verifier<'a>;

/// Judges memory by an image. What is made of the image alone is made once, for the slide that was last asked for.
#[pyclass(frozen, module = "pvops._core")]
pub struct Verifier {
    image: Arc<image::Image>,
    tables: Arc<sites::Tables>,
    rules: Rules,
    info: core::KernelInfo,
    held: Mutex<Option<(u64, Arc<Held>)>>,
}

impl Verifier {
    fn held(&self, slide: u64) -> Result<Arc<Held>> {
        // Who panicked while holding it left it as it was.
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, held)) = held.as_ref().filter(|(of, _)| *of == slide) {
            return Ok(Arc::clone(held));
        }
        let ingredients =
            Ingredients { image: Arc::clone(&self.image), tables: Arc::clone(&self.tables), rules: self.rules };
        let made = Arc::new(Held::try_new(ingredients, |of| {
            let code = core::code(&of.image, slide)?;
            core::Verifier::new(&of.image, &of.tables, &of.rules, self.info.clone(), code)
        })?);
        *held = Some((slide, Arc::clone(&made)));
        Ok(made)
    }
}

#[pymethods]
impl Verifier {
    #[new]
    fn new(tables: &Tables, era: &Bound<'_, PyAny>, info: &KernelInfo) -> PyResult<Verifier> {
        let (image, tables, held) = (Arc::clone(&tables.image), Arc::clone(&tables.tables), Mutex::new(None));
        Ok(Verifier { image, tables, rules: rules(era)?, info: info.0.clone(), held })
    }

    /// Judges what memory holds of the image's `.text`, and of modules. Modules are listed whether any is given or not;
    /// where one is given, a list that cannot be read is an error. At most `jobs` threads work at once.
    #[pyo3(signature = (known, found, modules = Vec::new(), jobs = None))]
    fn verify(
        &self,
        py: Python<'_>,
        known: &Known,
        found: &Location,
        modules: Vec<PyRef<'_, Image>>,
        jobs: Option<usize>,
    ) -> PyResult<Report> {
        let given: Vec<Arc<image::Image>> = modules.iter().map(|module| Arc::clone(&module.0)).collect();
        let judged = |memory: &Dump, found: &memory::Location, image: &image::Image| {
            let held = self.held(found.slide)?;
            let verifier = held.borrow_dependent();
            let mut text = core::text(memory, found, image)?;
            let pokes = memory::pokes(memory, found, image)?;
            let poked = if pokes.is_empty() {
                Vec::new()
            } else {
                verifier.finish(&mut text, &pokes, &memory::registered(memory, found, image)?.made(found.slide))
            };
            let list = core::Modules::read(memory, found, image);
            let linked = match &list {
                Ok(list) => list.link(&given, memory, found, image)?,
                Err(error) if !given.is_empty() => return Err(error.clone()),
                Err(_) => Vec::new(),
            };
            let view = core::View::new(verifier.text(), &text.bytes, &text.unread)?;
            let report = match jobs {
                Some(jobs) => verifier.verify_on(&view, &known.0, jobs),
                None => verifier.verify_again(&view, &known.0),
            };
            let modules = verifier.modules(&self.image, &report.state, &linked)?;
            Ok((report, modules, list, poked))
        };
        let (report, modules, list, poked) = found.guarded(py, judged)?;
        let loaded = list.map(|list| list.loaded).map_err(|error| error.to_string());
        Ok(Report { report, poked, loaded, modules, kernel: Arc::clone(&self.image) })
    }
}
