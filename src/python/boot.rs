//! `pvops._core.Tables`, and what decides a whole boot: `pvops._core.Boot`.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::error::{Error, Result};
use crate::image;
use crate::insn::NopTable;
use crate::plan::{self as core, Known};
use crate::python::detached::detached;
use crate::python::image::Image;
use crate::python::template::{Slot, TemplateRules};
use crate::sites;

/// Everything an image lists of its own code.
#[pyclass(frozen, module = "pvops._core")]
pub struct Tables {
    pub(super) image: Arc<image::Image>,
    pub(super) tables: Arc<sites::Tables>,
    /// The sites of each static key, made when one is asked for.
    sites_of_keys: OnceLock<HashMap<u64, Vec<u64>>>,
    /// The rows of .altinstructions that are alike, in the order of their first.
    alike: OnceLock<Vec<Vec<Place>>>,
}

/// (index, address, length, feature, inverted, direct call, key, target) of a row; what a table has not is None. Of a jump
/// label `inverted` is whether it jumps where its key is off.
type Row = (u32, u64, u16, Option<u16>, Option<bool>, Option<bool>, Option<u64>, Option<u64>);

/// A row of .altinstructions with its replacement, as `Tables::alternatives` gives it.
type Alternative<'py> = (u64, u8, u16, bool, bool, u64, Bound<'py, PyBytes>);

/// Index of a row of .altinstructions, address of its site and of its replacement.
type Place = (u32, u64, u64);

/// Rows of .altinstructions that are alike, as `Tables::alternatives_alike` gives them.
type Alike<'py> = (u8, u16, bool, bool, Bound<'py, PyBytes>, usize, Place);

/// A static key, as `Tables::static_keys` gives it.
type Key<'a> = (u64, bool, Option<(&'a str, u64)>);

fn listed(row: sites::Row) -> Row {
    (row.index, row.address, row.len, row.feature, row.inverted, row.direct_call, row.key, row.target)
}

impl Tables {
    /// What a row's replacement holds; of a direct call nothing, whatever it calls.
    fn replacement(&self, row: &sites::Alternative) -> &[u8] {
        let code = self.image.read(row.replacement, row.replacement_len.into());
        code.filter(|_| !row.direct_call).unwrap_or_default()
    }

    fn alike(&self) -> &[Vec<Place>] {
        self.alike.get_or_init(|| {
            let mut found: Vec<Vec<Place>> = Vec::new();
            let mut known = HashMap::new();
            for (index, row) in (0..).zip(self.tables.alternatives.iter().flat_map(|table| &table.rows)) {
                let alike = (row.len, row.feature, row.inverted, row.direct_call, self.replacement(row));
                let number = *known.entry(alike).or_insert(found.len());
                if number == found.len() {
                    found.push(Vec::new());
                }
                found[number].push((index, row.address, row.replacement));
            }
            found
        })
    }
}

#[pymethods]
impl Tables {
    /// Reads every table of an image.
    #[staticmethod]
    fn read(py: Python<'_>, image: &Image) -> PyResult<Tables> {
        let tables = detached(py, || sites::Tables::read(&image.0))?;
        Ok(Tables {
            image: image.0.clone(),
            tables: Arc::new(tables),
            sites_of_keys: OnceLock::new(),
            alike: OnceLock::new(),
        })
    }

    /// The rows of a table but .parainstructions, in table order; with `low` and `high` those that touch [low, high).
    #[pyo3(signature = (table, low = 0, high = None))]
    fn rows(&self, table: &str, low: u64, high: Option<u64>) -> PyResult<Vec<Row>> {
        let rows = self.tables.rows(&self.image, table)?;
        let high = high.unwrap_or(u64::MAX);
        Ok(rows.into_iter().filter(|row| row.touches(low, high)).map(listed).collect())
    }

    /// (address, length, feature, inverted, direct call, replacement's address, its bytes) of each row of
    /// .altinstructions, in table order.
    fn alternatives<'py>(&self, py: Python<'py>) -> Vec<Alternative<'py>> {
        let rows = self.tables.alternatives.iter().flat_map(|table| &table.rows);
        rows.map(|row| {
            let code = self.image.read(row.replacement, row.replacement_len.into()).unwrap_or_default();
            let code = PyBytes::new(py, code);
            (row.address, row.len, row.feature, row.inverted, row.direct_call, row.replacement, code)
        })
        .collect()
    }

    /// The rows of .altinstructions that are alike, in the order of their first: (length, feature, inverted, direct call,
    /// replacement's bytes, how many there are, (index, address, replacement's address) of the first). Direct calls are
    /// alike whatever they call.
    fn alternatives_alike<'py>(&self, py: Python<'py>) -> Vec<Alike<'py>> {
        let rows = self.tables.alternatives.as_ref().map_or(&[][..], |table| &table.rows);
        let group = |places: &Vec<Place>| {
            let &first = places.first()?;
            let row = rows.get(first.0 as usize)?;
            let code = PyBytes::new(py, self.replacement(row));
            Some((row.len, row.feature, row.inverted, row.direct_call, code, places.len(), first))
        };
        self.alike().iter().filter_map(group).collect()
    }

    /// The (index, address, replacement's address) of all rows that are alike, by their number in `alternatives_alike`.
    fn alternatives_of(&self, number: usize) -> &[Place] {
        self.alike().get(number).map_or(&[], Vec::as_slice)
    }

    /// (address, whether it is built on, symbol it lies in and offset or None) of each static key of a jump label.
    fn static_keys(&self, py: Python<'_>) -> PyResult<Vec<Key<'_>>> {
        let keys = detached(py, || sites::static_keys(&self.image, &self.tables))?;
        Ok(keys.into_iter().map(|key| (key.address, key.on, key.place)).collect())
    }

    /// The jump labels that use a static key, by their addresses, in table order.
    fn sites_of_key(&self, key: u64) -> &[u64] {
        let sites = self.sites_of_keys.get_or_init(|| sites::sites_of_keys(&self.tables));
        sites.get(&key).map_or(&[], Vec::as_slice)
    }

    /// (address of the key, name without its prefix or None, address of the function it is built with) of each static call
    /// that has sites or a trampoline, by address; where nothing names a trampoline's key, the trampoline's address.
    fn call_keys(&self, py: Python<'_>) -> PyResult<Vec<(u64, Option<&str>, u64)>> {
        let mut calls = detached(py, || sites::call_keys(&self.image, &self.tables))?;
        calls.sort_by_key(|call| call.address);
        Ok(calls.into_iter().map(|call| (call.address, call.name, call.built)).collect())
    }

    /// The layout of .altinstructions; None where the image has none.
    #[getter]
    fn alternatives_layout(&self) -> Option<&'static str> {
        self.tables.alternatives.as_ref().map(|table| table.layout.name)
    }

    /// How far before functions preambles are, and how far the kernel's own code takes them to be where it tells.
    #[getter]
    fn preambles(&self) -> (u64, Option<u64>) {
        (self.tables.preambles.built, self.tables.preambles.sealed)
    }

    /// How many places the rows of some tables name.
    fn count_sites(&self, py: Python<'_>, tables: Vec<String>) -> PyResult<usize> {
        let names: Vec<&str> = tables.iter().map(String::as_str).collect();
        let count = py.detach(|| self.tables.count_sites(&names));
        Ok(count.map_err(|error| error.in_file(self.image.name()))?)
    }

    /// The address of the static key, or of the key of the static call, that a row of its table names; None of other rows.
    fn key(&self, table: &str, row: usize) -> Option<u64> {
        match table {
            "jump_labels" => self.tables.jump_labels.get(row).map(|label| label.key),
            "static_calls" => self.tables.static_calls.get(row).map(|site| site.key),
            _ => None,
        }
    }

    /// (from, to, site) of each direct branch that lands in the middle of a site.
    fn intrusions(&self, py: Python<'_>) -> Vec<(u64, u64, u64)> {
        let found = py.detach(|| sites::intrusions(&self.image, &self.tables));
        found.into_iter().map(|i| (i.from, i.to, i.site_address)).collect()
    }

    /// (section, width in bytes, addresses) of each run-time constant.
    fn constants(&self) -> Vec<(String, u8, Vec<u64>)> {
        let constant = |c: &sites::ConstantTable| {
            (c.table.section.clone(), c.width, c.table.rows().map(|(_, address)| address).collect())
        };
        self.tables.constants.iter().map(constant).collect()
    }
}

/// A machine, in the terms of the passes: features are numbers, functions are addresses.
#[pyclass(frozen, module = "pvops._core")]
pub struct Boot(pub(super) core::Boot);

/// The numbers of the features that passes ask about themselves, by the kernel's name in small letters.
fn number(numbers: &HashMap<String, u16>, name: &str) -> Option<u16> {
    numbers.get(name).copied()
}

fn known<T>(map: HashMap<u64, (T, bool)>) -> HashMap<u64, Known<T>> {
    map.into_iter().map(|(at, (value, certain))| (at, Known { value, certain })).collect()
}

fn cfi_of(name: &str, seed: Option<u32>) -> Result<core::Cfi> {
    let known = || core::Cfi::NAMES.map(|(name, ..)| name).join(", ");
    core::Cfi::by_name(name, seed).ok_or_else(|| Error::ops(format!("cfi is one of {}; not {name:?}", known())))
}

#[pymethods]
impl Boot {
    /// `features` are the words of x86_capability, bug words behind; `numbers` those of retpoline, retpoline_lfence,
    /// rethunk, its and call_depth; a state is (value, whether nothing changes it after boot); `its_pages` are in the order
    /// they were allocated.
    #[new]
    #[pyo3(signature = (features, numbers, nops, *, return_thunk = None, uniprocessor = false, xen = false,
                        template = None, rules = None, pointers = None, keys = None, static_calls = None,
                        early_calls = None, constants = None, its_pages = Vec::new(), cfi = None,
                        hid_bpf = None, hvm_call = None))]
    #[expect(clippy::too_many_arguments, reason = "keywords in Python, each named")]
    fn new(
        features: Vec<u32>,
        numbers: HashMap<String, u16>,
        nops: &str,
        return_thunk: Option<u64>,
        uniprocessor: bool,
        xen: bool,
        template: Option<Vec<PyRef<'_, Slot>>>,
        rules: Option<PyRef<'_, TemplateRules>>,
        pointers: Option<HashMap<u64, u64>>,
        keys: Option<HashMap<u64, (bool, bool)>>,
        static_calls: Option<HashMap<u64, (u64, bool)>>,
        early_calls: Option<HashSet<u64>>,
        constants: Option<&Bound<'_, PyDict>>,
        its_pages: Vec<u64>,
        cfi: Option<(String, Option<u32>, bool)>,
        hid_bpf: Option<u64>,
        hvm_call: Option<&str>,
    ) -> PyResult<Boot> {
        let hvm_call = match hvm_call {
            None => None,
            Some(name) => {
                Some(core::HvmCall::by_name(name).ok_or_else(|| Error::ops(format!("no hypercall {name:?}")))?)
            }
        };
        let (cfi, cfi_known) = match cfi {
            None => Default::default(),
            Some((mode, seed, certain)) => (cfi_of(&mode, seed)?, certain),
        };
        let paravirt = match (template, rules) {
            (Some(template), Some(rules)) => Some(core::Paravirt {
                template: template.iter().map(|slot| slot.core()).collect(),
                rules: rules.core(),
            }),
            (None, None) => None,
            _ => return Err(Error::ops("a template comes with rules, and rules with a template").into()),
        };
        let mut known_constants = HashMap::new();
        for (name, value) in constants.into_iter().flatten() {
            let (value, certain): (u64, bool) = value.extract()?;
            known_constants.insert(name.extract::<String>()?, Known { value, certain });
        }
        Ok(Boot(core::Boot {
            features,
            retpoline: number(&numbers, "retpoline"),
            retpoline_lfence: number(&numbers, "retpoline_lfence"),
            rethunk: number(&numbers, "rethunk"),
            its: number(&numbers, "its"),
            call_depth: number(&numbers, "call_depth"),
            return_thunk,
            uniprocessor,
            nops: NopTable::by_name(nops)?,
            paravirt,
            pointers: pointers.unwrap_or_default(),
            keys: known(keys.unwrap_or_default()),
            static_calls: known(static_calls.unwrap_or_default()),
            early_calls: early_calls.unwrap_or_default(),
            constants: known_constants,
            its_pages,
            hid_bpf,
            xen,
            hvm_call,
            cfi,
            cfi_known,
        }))
    }
}

/// The tables of an era's passes, in the order of the passes.
#[pyfunction]
pub fn pass_order(era: &Bound<'_, PyAny>) -> PyResult<Vec<&'static str>> {
    Ok(rules(era)?.order.iter().flat_map(|stage| stage.tables()).map(core::Pass::name).collect())
}

/// (name, section or array of its rows, file, function) of every pass; a pass whose sites nothing lists has None.
#[pyfunction]
pub fn passes() -> Vec<(&'static str, Option<&'static str>, &'static str, &'static str)> {
    core::passes::PASSES.iter().map(|row| (row.name, row.table, row.file, row.function)).collect()
}

/// How the passes of a kernel decide what no table tells.
#[pyclass(frozen, module = "pvops._core")]
pub struct PassRules(core::Rules);

#[pymethods]
impl PassRules {
    /// The rules of an era by name, but for the choices given.
    #[new]
    #[pyo3(signature = (base, **choices))]
    fn new(base: &str, choices: Option<&Bound<'_, PyDict>>) -> PyResult<PassRules> {
        let mut rules = *core::Rules::by_name(base)?;
        for (name, value) in choices.into_iter().flatten() {
            rules = rules.with(&name.extract::<String>()?, &word(&value)?)?;
        }
        Ok(PassRules(rules))
    }

    /// Every choice with its value, as words.
    fn choices(&self) -> Vec<(&'static str, String)> {
        self.0.choices()
    }

    fn __repr__(&self) -> String {
        format!("PassRules({:?}, …)", self.0.era)
    }
}

/// A choice as a word: a bool is yes or no, a number is in hex, the names of a list stand with commas between.
fn word(value: &Bound<'_, PyAny>) -> PyResult<String> {
    if let Ok(flag) = value.extract::<bool>() {
        return Ok(if flag { "yes" } else { "no" }.to_owned());
    }
    if let Ok(number) = value.extract::<u64>() {
        return Ok(format!("{number:#x}"));
    }
    if let Ok(word) = value.extract::<String>() {
        return Ok(word);
    }
    Ok(value.extract::<Vec<String>>()?.join(","))
}

/// The rules of an era's passes, by name or as they are.
pub(super) fn rules(era: &Bound<'_, PyAny>) -> PyResult<core::Rules> {
    match era.cast::<PassRules>() {
        Ok(rules) => Ok(rules.get().0),
        Err(_) => Ok(*core::Rules::by_name(era.extract::<&str>()?)?),
    }
}
