//! `pvops._core.Plan`.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error::{Error, Result};
use crate::image;
use crate::insn::NopTable;
use crate::patch;
use crate::plan as core;
use crate::plan::{Decision, Reason, paravirt};
use crate::python::boot::{Boot, Tables, rules};
use crate::python::template::{Slot, TemplateRules};

/// (bytes after, bytes used, kind, reason) of a patched site.
type Patched<'py> = (Bound<'py, PyBytes>, usize, &'static str, String);

/// One turn of `apply_paravirt()` over the bytes of a site; with `fill` false its patch function alone, which leaves
/// what it does not use as it was.
#[pyfunction]
#[pyo3(signature = (slot, rules, clobbers, address, before, fill = true))]
pub fn patch_site<'py>(
    py: Python<'py>,
    slot: &Slot,
    rules: &TemplateRules,
    clobbers: u16,
    address: u64,
    before: &[u8],
    fill: bool,
) -> PyResult<Patched<'py>> {
    let mut buffer = before.to_vec();
    let patch = if fill { paravirt::patch_site } else { paravirt::patch_function };
    let decision = patch(&slot.core(), &rules.core(), clobbers, address, &mut buffer)?;
    Ok((PyBytes::new(py, &buffer), decision.used.into(), decision.kind.name(), decision.reason.to_string()))
}

/// `add_nops()`: that many bytes of nops of a table.
#[pyfunction]
pub fn fill_nops<'py>(py: Python<'py>, table: &str, len: u16) -> PyResult<Bound<'py, PyBytes>> {
    let mut buffer = vec![0; usize::from(len)];
    NopTable::by_name(table)?.fill(&mut buffer);
    Ok(PyBytes::new(py, &buffer))
}

/// Writes a file that appears whole or not at all.
#[pyfunction]
pub fn write_file(py: Python<'_>, path: PathBuf, data: &[u8]) -> PyResult<()> {
    Ok(py.detach(|| patch::write_file(&path, data))?)
}

/// The ordered writes of a boot.
#[pyclass(frozen, module = "pvops._core")]
pub struct Plan {
    image: Arc<image::Image>,
    plan: core::Plan,
}

/// (address, pass, row, bytes, kind, reason, bytes used, feature) of a write; the feature that decided, if one did:
/// (number, asked for its absence, present).
type Write<'py> = (u64, &'static str, u32, Bound<'py, PyBytes>, &'static str, String, u16, Option<(u16, bool, bool)>);

#[pymethods]
impl Plan {
    /// All passes of a boot, by the rules of an era.
    #[staticmethod]
    fn boot(py: Python<'_>, tables: &Tables, boot: &Boot, era: &Bound<'_, PyAny>) -> PyResult<Plan> {
        let rules = rules(era)?;
        let plan = py.detach(|| core::boot(&tables.image, &tables.tables, &boot.0, &rules))?;
        Ok(Plan { image: tables.image.clone(), plan })
    }

    fn __len__(&self) -> usize {
        self.plan.writes().len()
    }

    /// (address, length, table, row, forms) of the bytes that are a first guess; a form is in hex, `??` where a byte may
    /// be any.
    fn undetermined(&self) -> Vec<(u64, u8, &'static str, u32, Vec<String>)> {
        let site = |u: &core::Undetermined| (u.address, u.len, u.pass.name(), u.row, self.plan.patterns(u));
        self.plan.undetermined().iter().map(site).collect()
    }

    /// (pass, how many writes change something), in the order of their first.
    fn by_pass(&self) -> Vec<(&'static str, usize)> {
        let mut counts: Vec<(&'static str, usize)> = Vec::new();
        for write in self.plan.writes().iter().filter(|w| !self.plan.bytes(w).is_empty()) {
            let name = write.pass.name();
            match counts.iter_mut().find(|(pass, _)| *pass == name) {
                Some((_, n)) => *n += 1,
                None => counts.push((name, 1)),
            }
        }
        counts
    }

    /// Every write, in order; with an address, only those that touch it.
    #[pyo3(signature = (address = None))]
    fn writes<'py>(&self, py: Python<'py>, address: Option<u64>) -> Vec<Write<'py>> {
        let asked = |w: &&core::Write| {
            // A row that changed nothing has no bytes: it is at its address.
            address.is_none_or(|a| a >= w.address && a - w.address < self.plan.bytes(w).len().max(1) as u64)
        };
        let write = |w: &core::Write| {
            let Decision { kind, reason, used } = w.decision;
            let bytes = PyBytes::new(py, self.plan.bytes(w));
            let feature = match reason {
                Reason::Feature { number, inverted, present } => Some((number, inverted, present)),
                _ => None,
            };
            (w.address, w.pass.name(), w.row, bytes, kind.name(), reason.to_string(), used, feature)
        };
        self.plan.writes().iter().filter(asked).map(write).collect()
    }

    /// (kind, how many writes), most first.
    fn by_kind(&self) -> Vec<(&'static str, usize)> {
        let mut counts: Vec<(&'static str, usize)> = Vec::new();
        for write in self.plan.writes() {
            let name = write.decision.kind.name();
            match counts.iter_mut().find(|(kind, _)| *kind == name) {
                Some((_, n)) => *n += 1,
                None => counts.push((name, 1)),
            }
        }
        counts.sort_by_key(|&(_, n)| std::cmp::Reverse(n));
        counts
    }

    /// `.text` after the writes.
    fn text<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        // Patched in place: 15 MB need not be there twice.
        PyBytes::new_with(py, patch::text_len(&self.image)?, |out| Ok(patch::text_into(&self.image, &self.plan, out)?))
    }

    /// Writes the image after the writes to a file: as `elf`, or `.text` alone as `text`.
    fn save(&self, py: Python<'_>, path: PathBuf, format: &str) -> PyResult<()> {
        Ok(py.detach(|| patch::write_file(&path, &self.patched(format)?))?)
    }

    /// What `save` would write.
    fn patched_bytes<'py>(&self, py: Python<'py>, format: &str) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = py.detach(|| self.patched(format))?;
        Ok(PyBytes::new(py, &bytes))
    }
}

impl Plan {
    fn patched(&self, format: &str) -> Result<Vec<u8>> {
        match format {
            "elf" => patch::elf(&self.image, &self.plan),
            "text" => patch::text(&self.image, &self.plan),
            _ => Err(Error::ops(format!("format is \"elf\" or \"text\", not {format:?}"))),
        }
    }
}
