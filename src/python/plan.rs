//! `pvops._core.Plan`.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyCapsule};

use crate::error::{Error, Result};
use crate::image;
use crate::insn::NopTable;
use crate::patch;
use crate::plan as core;
use crate::plan::{Decision, Reason, paravirt};
use crate::python::arrow::{self, Column};
use crate::python::boot::{Boot, Tables, rules};
use crate::python::detached::detached;
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
    Ok(py.detach(|| patch::write_file(&path, &mut |out| out.write_all(data)))?)
}

/// The ordered writes of a boot.
#[pyclass(frozen, module = "pvops._core")]
pub struct Plan {
    image: Arc<image::Image>,
    plan: Arc<core::Plan>,
}

/// (address, pass, row, bytes, kind, reason, bytes used, feature) of a write; the feature that decided, if one did:
/// (number, asked for its absence, present).
type Write<'py> = (u64, &'static str, u32, Bound<'py, PyBytes>, &'static str, String, u16, Option<(u16, bool, bool)>);

/// (address, section, bytes as built, what each boot leaves, the writes of each there) of what two boots leave otherwise.
type Difference<'py> = (u64, &'py str, Bound<'py, PyBytes>, Both<Bound<'py, PyBytes>>, Both<Vec<Write<'py>>>);

/// Of the first boot, and of the second.
type Both<T> = (T, T);

/// (boot, the other boot, rules of an era, numbers of features): see `undetermined`.
type Other<'py> = (Bound<'py, Boot>, Bound<'py, Boot>, Bound<'py, PyAny>, Vec<u16>);

/// (address, length, table, row, forms) of bytes that are a first guess; a form is in hex, `??` where a byte may be any.
type Listed = (u64, u64, &'static str, Option<u32>, Vec<String>);

fn write<'py>(py: Python<'py>, plan: &core::Plan, write: &core::Write) -> Write<'py> {
    let Decision { kind, reason, used } = write.decision;
    let bytes = PyBytes::new(py, plan.bytes(write));
    let feature = match reason {
        Reason::Feature { number, inverted, present } => Some((number, inverted, present)),
        _ => None,
    };
    (write.address, write.pass.name(), write.row, bytes, kind.name(), reason.to_string(), used, feature)
}

#[pymethods]
impl Plan {
    /// All passes of a boot, by the rules of an era; with `places`, (start, end), what that has there, and no more than is
    /// needed for it.
    #[staticmethod]
    #[pyo3(signature = (tables, boot, era, places = None))]
    fn boot(
        py: Python<'_>,
        tables: &Tables,
        boot: &Boot,
        era: &Bound<'_, PyAny>,
        places: Option<Vec<(u64, u64)>>,
    ) -> PyResult<Plan> {
        let (rules, image, of_image) = (rules(era)?, &tables.image, &tables.tables);
        let plan = detached(py, || match places {
            Some(places) => core::boot_at(image, of_image, &boot.0, &rules, places),
            None => core::boot(image, of_image, &boot.0, &rules),
        })?;
        Ok(Plan { image: tables.image.clone(), plan: Arc::new(plan) })
    }

    fn __len__(&self) -> usize {
        self.plan.writes().len()
    }

    /// The bytes that are a first guess; `otherwise` has the boot of the plan, the same with what the machine does not tell
    /// taken the other way, the rules of an era, and the numbers of the features among it.
    #[pyo3(signature = (tables, otherwise = None))]
    fn undetermined(
        &self,
        py: Python<'_>,
        tables: &Tables,
        otherwise: Option<Other<'_>>,
    ) -> PyResult<UndeterminedBytes> {
        let (image, tables) = (&self.image, &tables.tables);
        let other = match &otherwise {
            None => None,
            Some((boot, other, era, unknown)) => Some((&boot.get().0, &other.get().0, rules(era)?, unknown)),
        };
        let found = detached(py, || {
            let boot = |(boot, other, rules, unknown): (_, _, _, &Vec<u16>)| {
                core::Otherwise::boot(image, tables, &self.plan, boot, other, &rules, unknown.clone())
            };
            let other = other.map(boot).transpose()?;
            Ok(core::undetermined(image, tables, &self.plan, other.as_ref()))
        })?;
        Ok(UndeterminedBytes { plan: self.plan.clone(), found })
    }

    /// Where another plan of the same image leaves other bytes, by address.
    fn differences<'py>(&'py self, py: Python<'py>, other: &Plan) -> Vec<Difference<'py>> {
        let found = py.detach(|| core::differences(&self.image, &self.plan, &other.plan));
        let side = |plan: &core::Plan, side: &core::Side| {
            let writes = side.writes.iter().filter_map(|&number| plan.writes().get(number as usize));
            writes.map(|one| write(py, plan, one)).collect()
        };
        let difference = |place: core::Difference| {
            let section = self.image.section_at(place.address).map_or("", |section| section.name.as_str());
            let bytes = |bytes: &[u8]| PyBytes::new(py, bytes);
            let left = (bytes(&place.a.bytes), bytes(&place.b.bytes));
            let writes = (side(&self.plan, &place.a), side(&other.plan, &place.b));
            (place.address, section, bytes(&place.built), left, writes)
        };
        found.into_iter().map(difference).collect()
    }

    /// The tables of all passes that have a row in the plan, in the order of their first.
    fn tables(&self) -> Vec<&'static str> {
        let mut found: Vec<&'static str> = Vec::new();
        let mut last = None;
        for pass in self.plan.writes().iter().map(|write| write.pass) {
            if last != Some(pass) && !found.contains(&pass.name()) {
                found.push(pass.name());
            }
            last = Some(pass);
        }
        found
    }

    /// (pass, how many writes change something), in the order of their first.
    fn by_pass(&self) -> Vec<(&'static str, usize)> {
        self.plan.by_pass().iter().map(|&(pass, writes)| (pass.name(), writes)).collect()
    }

    /// Every write, in order; with `low` and `high` those that touch [low, high).
    #[pyo3(signature = (low = 0, high = None))]
    fn writes<'py>(&self, py: Python<'py>, low: u64, high: Option<u64>) -> Vec<Write<'py>> {
        let made = |one| write(py, &self.plan, one);
        match high {
            None if low == 0 => self.plan.writes().iter().map(made).collect(),
            _ => self.plan.touching(low, high.unwrap_or(u64::MAX)).map(made).collect(),
        }
    }

    /// Every write as Arrow's C stream interface has it.
    fn arrow<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        let (writes, n) = (self.plan.writes(), self.plan.writes().len());
        let columns = vec![
            Column::u64("address", n, writes.iter().map(|write| write.address).collect::<Vec<_>>()),
            Column::u8("table", n, writes.iter().map(|write| write.pass as u8).collect::<Vec<_>>())
                .numbering(core::ALL_PASSES.iter().map(|pass| pass.name())),
            Column::u32("row", n, writes.iter().map(|write| write.row).collect::<Vec<_>>()),
            Column::bytes("bytes", writes.iter().map(|write| self.plan.bytes(write))),
            Column::words("kind", writes.iter().map(|write| write.decision.kind.name())),
            Column::words("reason", writes.iter().map(|write| write.decision.reason.to_string())),
            Column::u32("used", n, writes.iter().map(|write| u32::from(write.decision.used)).collect::<Vec<_>>()),
        ];
        arrow::stream(py, columns)
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

    /// Writes the image after the writes to a file: as `elf`, `.text` alone as `text`, or a core file as `kcore`.
    fn save(&self, py: Python<'_>, path: PathBuf, format: &str) -> PyResult<()> {
        Ok(py.detach(|| match format {
            "text" => patch::save_text(&self.image, &self.plan, &path),
            _ => {
                let file = self.patched(format)?;
                patch::write_file(&path, &mut |out| file.write_to(out))
            }
        })?)
    }

    /// What `save` would write.
    fn patched_bytes<'py>(&self, py: Python<'py>, format: &str) -> PyResult<Bound<'py, PyBytes>> {
        if format == "text" {
            return self.text(py);
        }
        let file = py.detach(|| self.patched(format))?;
        PyBytes::new_with(py, file.len(), |mut out| {
            // There is room for all of it.
            file.write_to(&mut out).map_err(|error| Error::io(&error).into())
        })
    }
}

impl Plan {
    fn patched(&self, format: &str) -> Result<patch::PatchedFile<'_>> {
        match format {
            "elf" => patch::elf(&self.image, &self.plan),
            "kcore" => patch::kcore(&self.image, &self.plan),
            _ => Err(Error::ops(format!("format is \"elf\", \"text\" or \"kcore\", not {format:?}"))),
        }
    }
}

/// The bytes of a plan that are a first guess.
#[pyclass(frozen, module = "pvops._core")]
pub struct UndeterminedBytes {
    plan: Arc<core::Plan>,
    found: Vec<core::Undetermined>,
}

impl UndeterminedBytes {
    fn listed(&self, bytes: &core::Undetermined) -> Listed {
        (bytes.address, bytes.len, bytes.pass.name(), bytes.row, bytes.forms(&self.plan))
    }

    fn begin_in(&self, low: u64, high: Option<u64>) -> impl Iterator<Item = &core::Undetermined> {
        let from = self.found.partition_point(|bytes| bytes.address < low);
        self.found[from..].iter().take_while(move |bytes| high.is_none_or(|high| bytes.address < high))
    }
}

#[pymethods]
impl UndeterminedBytes {
    fn __repr__(&self) -> String {
        format!("<UndeterminedBytes at {} places>", self.found.len())
    }

    /// Those that begin in [low, high), by address.
    #[pyo3(signature = (low = 0, high = None))]
    fn sites(&self, low: u64, high: Option<u64>) -> Vec<Listed> {
        self.begin_in(low, high).map(|bytes| self.listed(bytes)).collect()
    }

    /// Those that touch [low, high), by address.
    fn touching(&self, low: u64, high: u64) -> Vec<Listed> {
        self.found
            .iter()
            .filter(|bytes| bytes.address < high && bytes.end() > low)
            .map(|bytes| self.listed(bytes))
            .collect()
    }

    /// (how many bytes, at how many sites, of which tables, in the order of their first) of those that begin in
    /// [low, high).
    #[pyo3(signature = (low = 0, high = None))]
    fn totals(&self, low: u64, high: Option<u64>) -> (u64, usize, Vec<&'static str>) {
        let (mut bytes, mut sites, mut tables) = (0, 0, Vec::new());
        for guess in self.begin_in(low, high) {
            (bytes, sites) = (bytes + guess.len, sites + 1);
            if !tables.contains(&guess.pass.name()) {
                tables.push(guess.pass.name());
            }
        }
        (bytes, sites, tables)
    }

    /// Of places (from, to) by address, whether each is the last that some of these bytes touch.
    fn of_places(&self, places: Vec<(u64, u64)>) -> Vec<bool> {
        let mut found = vec![false; places.len()];
        for bytes in &self.found {
            let after = places.partition_point(|place| place.0 < bytes.end());
            if let Some(last) = after.checked_sub(1).filter(|&last| bytes.address < places[last].1) {
                found[last] = true;
            }
        }
        found
    }
}
